"""JSON Patch (RFC 6902): what turns one JSON value into another, for clients that have the first one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

#: An operation of a patch.
Operation = dict[str, object]

# Clients in JavaScript refuse a patch of these members.
_REFUSED = ("__proto__", "prototype")


def json_patch(before: object, after: object) -> list[Operation] | None:
    """Return the operations that turn one JSON value into another; none if they are equal.

    `None` stands for a change that is better sent as a whole: it is too deep, or clients would refuse it.
    """
    try:
        operations = list(_difference(before, after, ""))
    except RecursionError:
        return None
    if any(name in str(operation["path"]) for operation in operations for name in _REFUSED):
        return None
    return operations


def _difference(before: object, after: object, path: str) -> Iterator[Operation]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _of_objects(before, after, path)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _of_arrays(before, after, path)
    elif not _is_same(before, after):
        yield {"op": "replace", "path": path, "value": after}


def _of_objects(before: Mapping[str, object], after: Mapping[str, object], path: str) -> Iterator[Operation]:
    for name in before:
        if name not in after:
            yield {"op": "remove", "path": _member(path, name)}
    for name, value in after.items():
        if name in before:
            yield from _difference(before[name], value, _member(path, name))
        else:
            yield {"op": "add", "path": _member(path, name), "value": value}


def _of_arrays(before: Sequence[object], after: Sequence[object], path: str) -> Iterator[Operation]:
    """Yield the difference of two arrays; what they have alike at the beginning and the end stays."""
    most = min(len(before), len(after))
    start = next((index for index in range(most) if not _is_same(before[index], after[index])), most)
    alike = range(1, most - start + 1)
    tail = next((index - 1 for index in alike if not _is_same(before[-index], after[-index])), most - start)
    old, new = before[start : len(before) - tail], after[start : len(after) - tail]
    for index, (former, value) in enumerate(zip(old, new, strict=False), start):
        yield from _difference(former, value, f"{path}/{index}")
    for index in reversed(range(start + len(new), start + len(old))):
        yield {"op": "remove", "path": f"{path}/{index}"}
    for index, value in enumerate(new[len(old) :], start + len(old)):
        yield {"op": "add", "path": f"{path}/{index}", "value": value}


def _is_same(one: object, other: object) -> bool:
    """Whether two values are one in JSON; in Python, also `True` and 1 are equal."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_is_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _member(path: str, name: str) -> str:
    return f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
