"""The values of states: JSON with one member for each name, and not nested too deeply.

Patches are made and applied by recursive code, on the server and in clients, so the depth is bounded. Names
that are not strings become strings in JSON, where `1` and `"1"` would be the same member twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from .._wire.event import Dumps, ServerSentEvent, dumps_compact

_DEEPEST = 100
_CONTAINERS = (dict, list, tuple)


def encode_state(value: object, dumps: Dumps) -> str:
    """Return a state's value as JSON.

    Raises:
        TypeError: it is not a JSON value, or a member's name is not a string.
        ValueError: it is nested more than 100 levels deep or is too large, or `dumps` does not return JSON
            that has each member once.
    """
    _check(value)
    text = ServerSentEvent([value]).text(dumps=dumps)[1:-1]  # in a list, since text would be sent as it is
    if dumps is not dumps_compact:
        try:
            parsed = json.loads(text, object_pairs_hook=_members)
        except RecursionError:
            raise _too_deep() from None
        except ValueError as error:
            raise ValueError(f"a state needs a dumps that returns JSON: {error}") from error
        _check(parsed)
    return text


def _check(value: object) -> None:
    """Refuse names that are not strings, and a value that is nested too deeply."""
    level: list[object] = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(_DEEPEST):
        deeper: dict[int, object] = {}  # by identity, since a value may contain itself many times
        for item in level:
            if isinstance(item, dict):
                for name in item:
                    if not isinstance(name, str):
                        raise _not_a_name(name)
                items: Iterable[object] = item.values()
            else:
                assert isinstance(item, list | tuple)
                items = item
            for child in items:
                if isinstance(child, _CONTAINERS):
                    deeper[id(child)] = child
        if not deeper:
            return
        level = list(deeper.values())
    raise _too_deep()


def _not_a_name(name: object) -> TypeError:
    is_in_json = name is None or isinstance(name, int | float)
    advice = f": write {json.dumps(json.dumps(name))}" if is_in_json else ""
    return TypeError(f"the names of a state's members are strings, and {name!r} is not{advice}")


def _too_deep() -> ValueError:
    return ValueError(f"a state is nested at most {_DEEPEST} levels deep, and without circles")


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the member {twice!r} twice")
    return members
