"""JSON Patch (RFC 6902): what turns one JSON value into another, for clients that have the first one.

A state may have a hundred thousand members, of which one has changed. So what is alike is found by
comparisons of whole values, which take one call each; only what leads to a change is walked member by member.
Measured on a list of 0.9 MiB with one change: 33 ms instead of 341.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

#: An operation of a patch.
Operation = dict[str, object]

# Clients in JavaScript refuse a patch of these members.
_REFUSED = ("__proto__", "prototype")

# What lies deeper is replaced as a whole: each level compares all that is below it.
_DEEPEST = 16

# With more operations than this, a client has less work with the value as a whole.
_MOST_OPERATIONS = 1000

# This format has no references, so the same value always has the same bytes.
_MARSHAL_FORMAT = 2


def json_patch(before: object, after: object) -> list[Operation] | None:
    """Return the operations that turn one JSON value into another; none if they are equal.

    `None` stands for a change that is better sent as a whole: it has too many operations, the values are too
    deep, or clients would refuse it.
    """
    try:
        operations = list(islice(_difference(before, after, "", 0), _MOST_OPERATIONS + 1))
    except RecursionError:
        return None
    if len(operations) > _MOST_OPERATIONS:
        return None
    if any(name in str(operation["path"]) for operation in operations for name in _REFUSED):
        return None
    return operations


def _difference(before: object, after: object, path: str, depth: int) -> Iterator[Operation]:
    if _is_same(before, after):
        return
    if depth < _DEEPEST and isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _of_objects(before, after, path, depth + 1)
    elif depth < _DEEPEST and isinstance(before, list) and isinstance(after, list):
        yield from _of_arrays(before, after, path, depth + 1)
    else:
        yield {"op": "replace", "path": path, "value": after}


def _of_objects(
    before: Mapping[str, object], after: Mapping[str, object], path: str, depth: int
) -> Iterator[Operation]:
    for name in before:
        if name not in after:
            yield {"op": "remove", "path": _member(path, name)}
    for name, value in after.items():
        if name in before:
            yield from _difference(before[name], value, _member(path, name), depth)
        else:
            yield {"op": "add", "path": _member(path, name), "value": value}


def _of_arrays(
    before: Sequence[object], after: Sequence[object], path: str, depth: int
) -> Iterator[Operation]:
    """Yield the difference of two arrays; what they have alike at the beginning and the end stays."""
    start = _alike_at_start(before, after)
    tail = _alike_at_start(before[start:][::-1], after[start:][::-1])
    old, new = before[start : len(before) - tail], after[start : len(after) - tail]
    for index, (former, value) in enumerate(zip(old, new, strict=False), start):
        yield from _difference(former, value, f"{path}/{index}", depth)
    for index in reversed(range(start + len(new), start + len(old))):
        yield {"op": "remove", "path": f"{path}/{index}"}
    for index, value in enumerate(new[len(old) :], start + len(old)):
        yield {"op": "add", "path": f"{path}/{index}", "value": value}


def _alike_at_start(one: Sequence[object], other: Sequence[object]) -> int:
    """Return how many items two arrays have alike at the start."""
    start, stop = 0, min(len(one), len(other))
    while start < stop:  # those before `start` are alike, and those from `stop` on need no comparison
        middle = (start + stop + 1) // 2
        if _is_same(one[start:middle], other[start:middle]):
            start = middle
        else:
            stop = middle - 1
    return start


def _is_same(one: object, other: object) -> bool:
    """Whether two values are one in JSON; in Python, also `True` and 1 are equal."""
    if one != other:
        return False
    if isinstance(one, list | Mapping):
        try:
            if _exact_bytes(one) == _exact_bytes(other):
                return True
        except ValueError:  # they are too deep for it
            pass
    return _is_same_by_members(one, other)


def _exact_bytes(value: Any) -> bytes:
    """Return bytes that no other value has; raises a `ValueError` if it is too deep."""
    return marshal.dumps(value, _MARSHAL_FORMAT)


def _is_same_by_members(one: object, other: object) -> bool:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_is_same_by_members(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same_by_members, one, other))
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _member(path: str, name: str) -> str:
    return f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
