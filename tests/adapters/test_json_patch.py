"""Patches between JSON values: they lead to the value, by another implementation of RFC 6902."""

from __future__ import annotations

import json
from typing import Any

import jsonpatch
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_sse._runs.items import RunState
from trio_sse.adapters._json_patch import json_patch
from trio_sse.adapters._state_changes import StateChanges
from trio_sse.adapters.ag_ui import _AgentRun

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 1.5, "", "a"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "a/~1"]), inner),
    max_leaves=8,
)


@given(VALUES, VALUES)
@example([1, 2, 3], [0, 1, 2, 3])
@example({"a": [True]}, {"a": [1]})
def test_a_patch_leads_to_the_value(before: Any, after: Any) -> None:
    operations = json_patch(before, after)
    assert operations is not None
    made = jsonpatch.apply_patch(before, operations)
    assert json.dumps(made, sort_keys=True) == json.dumps(after, sort_keys=True)
    assert json_patch(after, after) == []


def test_a_patch_says_what_has_changed_and_no_more() -> None:
    before = {"steps": [{"name": "read"}, {"name": "think"}], "done": 1}
    after = {"steps": [{"name": "read"}, {"name": "think", "is": "over"}, {"name": "write"}], "done": 2}
    assert json_patch(before, after) == [
        {"op": "add", "path": "/steps/1/is", "value": "over"},
        {"op": "add", "path": "/steps/2", "value": {"name": "write"}},
        {"op": "replace", "path": "/done", "value": 2},
    ]
    assert json_patch([1, 2, 3, 4], [1, 4]) == [
        {"op": "remove", "path": "/2"},
        {"op": "remove", "path": "/1"},
    ]


@pytest.mark.parametrize("name", ["__proto__", "prototype"])
def test_what_clients_refuse_or_what_is_too_deep_is_no_patch(name: str) -> None:
    assert json_patch({}, {name: 1}) is None
    deep: Any = []
    for _ in range(100_000):  # Python 3.13 compares 5,000
        deep = [deep]
    assert json_patch(deep, [deep]) is None


def test_what_lies_deep_is_replaced_as_a_whole_and_a_patch_has_at_most_1000_operations() -> None:
    def nested(value: Any, levels: int) -> Any:
        for _ in range(levels):
            value = {"a": value}
        return value

    operation = {"op": "replace", "path": "/a" * 16, "value": nested(2, 14)}
    assert json_patch(nested(1, 30), nested(2, 30)) == [operation]
    before, after = dict.fromkeys(map(str, range(1001)), 0), dict.fromkeys(map(str, range(1001)), 1)
    assert json_patch(before, after) is None
    del before["0"], after["0"]
    assert len(json_patch(before, after) or ()) == 1000


def test_an_agent_s_client_receives_changes_unless_they_are_larger_than_the_state() -> None:
    run = _AgentRun("r", StateChanges())
    large, other = list(range(1000)), list(range(1000, 1500))
    sent = [
        json.loads(str(payload.data))
        for state in (large, [*large, 7], [*large, 7], other, 3)
        for payload in run.translate(RunState(json.dumps(state), "c"))
    ]
    assert sent == [
        {"type": "STATE_SNAPSHOT", "snapshot": large},
        {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/1000", "value": 7}]},
        {"type": "STATE_SNAPSHOT", "snapshot": other},
        {"type": "STATE_DELTA", "delta": [{"op": "replace", "path": "", "value": 3}]},
    ]
