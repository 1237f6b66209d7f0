"""What other programs may have put into a store of runs: it cannot be read, and harms nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from trio_sse import RunGone, RunStatus
from trio_sse._log_backends.readable_runs import run_or_none
from trio_sse._log_backends.redis_runs import _stored
from trio_sse._runs.content import RunContent
from trio_sse._runs.position import START
from trio_sse._runs.stored import apply_stored, info_of
from trio_sse._shared_log.run_session import (
    AttemptStart,
    NewRun,
    RunBounds,
    RunChanges,
    RunSession,
    StoredRun,
    TextPiece,
)
from trio_sse.sqlite import SQLiteLog

from ..support.cases import each_case
from ..support.run_nodes import Node, nodes, reading
from ..support.waiting import SECONDS

RUN = StoredRun("id", "u", "k", 1.5, True, 1, 1, 5, [5], 1, 1, None, ["text"], [b"h\xc3\xa4ls"], [], None)
END = '["finished",null,"7",2.5]'


def test_what_a_node_stores_is_read() -> None:
    content = RunContent("id", 1.5)
    apply_stored(content, RUN._replace(events=[b'["e","d",[3]]', b'[null,"d",[]]'], state="[1]", end=END))
    assert (content.head.events, content.state, content.status) == (2, "[1]", RunStatus.FINISHED)
    assert [event.data for event in content.since(START)][:2] == ['{"text":"h\u00e4"}', "d"]
    assert info_of(RUN._replace(end=END), viewers=2).ended_at == 2.5


@each_case(
    "changes",
    [
        {"events": [b"{"]},
        {"events": [b'["e","d"]']},
        {"events": [b'["e","d",[1,2]]']},
        {"events": [b'["e","d",[6]]']},
        {"events": [b'["e","d",[2]]']},  # in the middle of a character: this was read for ever
        {"events": [b'["e","d",[-1]]']},
        {"events": [b'["e","d",[true]]']},
        {"events": [b'["e\\nid: 9","d",[]]']},
        {"events": [b'["e\\ud83d","d",[]]']},
        {"events": [b'["e","\\ud83d\\rid: 9",[]]']},
        {"events": [b'["e","d\\rid: 9",[]]']},
        {"events": [b'["end","{}",[]]']},
        {"events": [b"[" * 100_000]},
        {"events": [b"\xff"]},
        {"pieces": [b"\x80" * 5]},
        {"pieces": [b"h\xc3"]},
        {"pieces": []},
        {"pieces": ["text"]},
        {"names": [None]},
        {"names": [str(number) for number in range(17)], "pieces": [b"a"] * 17},
        {"state": "{"},
        {"state": "[1,\r2]"},
        {"state": "[" * 100_000},
        {"end": "{}"},
        {"end": '["running",null,null,2.5]'},
        {"end": '["ended",null,null,2.5]'},
        {"end": '["finished",null,"{",2.5]'},
        {"end": '["finished",null,"[\\r]",2.5]'},
        {"end": '["finished",null,null,1e999]'},
        {"end": '["finished",null,null,true]'},
        {"end": '["finished",7,null,2.5]'},
        {"created_at": None},
        {"created_at": float("nan")},
        {"owner": 7},
        {"attempt": "1"},
        {"size": -1},
        {"lengths": [None]},
        {"starts": (AttemptStart("a b", 0, 0, ()),)},
        {"starts": (AttemptStart("ab", 0, -1, ()),)},
    ],
)
def test_what_no_node_can_have_stored_is_refused(changes: dict[str, Any]) -> None:
    content = RunContent("id", 1.5)
    with pytest.raises(ValueError, match=" "):
        apply_stored(content, RUN._replace(**changes))
    for event in content.whole():
        event.data.encode()


def test_what_redis_cannot_have_from_a_node_is_no_run(caplog: pytest.LogCaptureFixture) -> None:
    row = [b"1", b"o", b"", b"1.5", b"h", b"1", b"1", b"0", b"", [], b"7", b"", [], 0]
    stored = run_or_none("id", _stored, "id", row)
    assert stored is not None
    assert (stored.owner, stored.key, stored.created_at, stored.size) == ("o", None, 1.5, 7)
    for place, value in ((3, b"x"), (5, None), (1, b"\xff"), (8, b"\xff"), (10, b""), (11, b"x-1"), (12, 7)):
        assert run_or_none("id", _stored, "id", [*row[:place], value, *row[place + 1 :]]) is None
    assert caplog.text.count("the run id in the store cannot be read") == 7


async def test_a_run_that_another_program_has_broken_hides_no_other_and_ends_its_streams(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = SQLiteLog(tmp_path / "log")
    node, other = Node(log), Node(SQLiteLog(tmp_path / "log"))
    async with log.connect() as session, nodes(node, other):
        assert isinstance(session, RunSession)
        for id in ("broken", "breaks", "whole"):
            new = NewRun(id, None, None, 1.0, 600, 600, None, None, 1)
            await session.create_run("elsewhere", 600, new, RunBounds(None, None))
        piece = TextPiece(0, "text", b"hello")
        await session.commit_runs("elsewhere", 600, [RunChanges("breaks", 1, 0, 1, 5, pieces=[piece])])
        broken = RunChanges("broken", 1, 0, 1, 1, events=[b'["e","d",[7]]'], end="{}")
        await session.commit_runs("elsewhere", 600, [broken])
        with pytest.raises(RunGone):
            await node.runs.get("broken").wait()
        with pytest.raises(RunGone):
            await node.runs.get("broken").info()
        assert {info.id for info in await node.runs.list()} == {"breaks", "whole"}
        async with reading(node.runs.get("breaks"), other.runs.get("whole")) as (reader, another):
            await reader.has("hello")
            more = RunChanges("breaks", 1, 1, 2, 6, events=[b'["e","d",[1000000000000]]'])
            whole = RunChanges("whole", 1, 0, 1, 0, end=END)
            await session.commit_runs("elsewhere", 600, [more, whole])
            with trio.fail_after(SECONDS):
                while not (reader.ends and another.ends):  # noqa: ASYNC110
                    await trio.sleep(0.01)
            assert (reader.ends[0].status, reader.ends[0].reason) == (RunStatus.LOST, "it cannot be read")
            assert another.ends[0].status is RunStatus.FINISHED
    assert "the run broken in the store cannot be read" in caplog.text
