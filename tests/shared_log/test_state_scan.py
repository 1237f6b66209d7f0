"""The search for states in a log: it finds what a reader of the whole log knows."""

from __future__ import annotations

from collections.abc import Collection

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from trio_sse import LogEnd, PatchFormat, ServerSentEvent
from trio_sse._shared_log.protocol import Entry
from trio_sse._shared_log.record import encode_record
from trio_sse._shared_log.state_scan import FoundState, find_states
from trio_sse._state.replica import StateReplica
from trio_sse._state.topic import StateTopic
from trio_sse._wire.message import Message
from trio_sse._wire.state_change import ChangeKind, StateChange

from .test_foreign_logs import ListLog


class States:
    """The states of a hub, as a search sees them: two, of which one is in no log."""

    losses = 0

    def __init__(self) -> None:
        self.topics = {name: StateTopic(name, "{}", PatchFormat.MERGE, 0) for name in ("s", "missing")}
        self.replicas = {
            name: StateReplica(topic, is_loaded_late=False) for name, topic in self.topics.items()
        }
        self.loaded: list[str] = []

    def unloaded(self) -> Collection[str]:
        return list(self.replicas)

    async def wait_unloaded(self) -> None:
        raise AssertionError

    def lose(self) -> None:
        raise AssertionError

    def load(self, name: str, found: FoundState, end: LogEnd) -> None:
        self.loaded.append(name)
        self.replicas[name].load(found, end, end.number)


def record(kind: ChangeKind, event: str, base: str | None, number: int, seen: str = "") -> bytes:
    text = f'{{"{number % 5}":{number}}}'
    message = Message("s", ServerSentEvent(text, event=event), text)
    message.change = StateChange(kind, base, "", seen)
    return encode_record(message, f"m-{number}")


async def search(log: ListLog, look_back: int = 0) -> States:
    states = States()
    async with log.connect() as session:
        await find_states(session, states, look_back=look_back, skipped=lambda entry, reason: None)
    assert states.loaded == ["s", "missing"]
    return states


# What each entry is: a patch, a repeated snapshot, a snapshot that is sent, one that follows any version, or
# an event of another topic; and how many versions of the state its writer had not read.
steps = st.lists(
    st.tuples(st.sampled_from(["patch", "repeat", "snapshot", "forced", "other"]), st.integers(0, 3)),
    max_size=40,
)


@given(
    steps=steps,
    look_back=st.sampled_from([0, 5, 1000]),
    kept=st.sampled_from([1, 2, 5, 10, 1000]),
    old=st.integers(0, 1),
)
def test_a_search_finds_what_a_reader_of_everything_knows(
    steps: list[tuple[str, int]], look_back: int, kept: int, old: int
) -> None:
    """If the log has dropped what shows it, the search finds nothing, and the other hubs are asked."""

    async def main() -> None:
        log = ListLog()
        states = States()
        reader = states.replicas["s"]
        reader.load(FoundState([], is_new=True), LogEnd("1", 0, "0-0"), 0)
        versions: list[str | None] = [""]
        seen = [0]  # until when each was the newest one
        for number, (what, behind) in enumerate(steps, 1):
            if what == "other":
                log.add(b'["t","x",null,null,null,"m"]')
                seen[-1] = number
                continue
            place = max(0, len(versions) - 1 - behind)
            base = versions[place]
            read = max(seen[place] - old, 0)
            kind = ChangeKind.REPEAT if what == "repeat" else ChangeKind.CHANGE
            is_patch = what == "patch" and base != ""
            event = "merge-patch" if is_patch else "snapshot"
            log.add(record(kind, event, None if what == "forced" else base, number, f"1.{read}"))
            entry = log.entries[-1]
            text = f'{{"{number % 5}":{number}}}'
            message = Message("s", ServerSentEvent(text, event=event), text)
            message.change = StateChange(kind, None if what == "forced" else base, "")
            if reader.read(entry, message):
                versions.append(reader.version)
                seen.append(number)
            else:
                seen[-1] = number
        log.drop(len(log.entries) - kept)
        found = await search(log, look_back)
        if kept < len(steps) and found.replicas["s"].is_asking:
            return
        assert found.replicas["s"].version == reader.version
        assert found.topics["s"].text == states.topics["s"].text

    trio.run(main, clock=MockClock(autojump_threshold=0))


async def test_a_snapshot_that_came_too_late_is_not_taken() -> None:
    log = ListLog()
    log.add(record(ChangeKind.CHANGE, "snapshot", "", 1))
    log.add(record(ChangeKind.CHANGE, "merge-patch", "1.1", 2))
    log.add(record(ChangeKind.REPEAT, "snapshot", "1.1", 3))
    states = await search(log)
    assert states.replicas["s"].version == "1.2"
    assert states.topics["s"].text == '{"1":1,"2":2}'


async def test_without_a_snapshot_the_version_is_unknown() -> None:
    log = ListLog()
    log.number = 7  # what came first was dropped
    log.add(record(ChangeKind.CHANGE, "merge-patch", "1.1", 2))
    states = States()
    async with log.connect() as session:
        await find_states(session, states, look_back=0, skipped=lambda entry, reason: None)
    assert states.replicas["s"].is_asking
    assert not states.replicas["s"].is_loaded


async def test_changes_of_a_state_that_the_log_has_lost_are_none() -> None:
    log = ListLog()
    log.add(record(ChangeKind.CHANGE, "merge-patch", "0.7", 2))  # of an earlier epoch
    states = await search(log)
    assert states.replicas["s"].is_loaded
    assert states.replicas["s"].version == ""


async def test_a_snapshot_of_a_hub_that_had_not_noticed_that_the_log_was_emptied_is_none() -> None:
    log = ListLog()
    log.add(record(ChangeKind.REPEAT, "snapshot", "0.7", 1))  # every hub that has read the log refuses it
    assert (await search(log)).replicas["s"].version == ""
    log.add(record(ChangeKind.REPEAT, "snapshot", "", 2))
    log.add(record(ChangeKind.REPEAT, "snapshot", "1.2", 3))
    log.add(record(ChangeKind.CHANGE, "merge-patch", "1.1", 4))
    states = await search(log)
    assert states.replicas["s"].version == "1.3"
    assert states.topics["s"].text == '{"3":3}'


async def test_a_snapshot_is_certain_if_all_that_its_hub_had_not_read_is_there() -> None:
    log = ListLog()
    log.number = 47
    log.add(b'["t","x",null,null,null,"m"]')
    log.add(record(ChangeKind.CHANGE, "merge-patch", "1.20", 3))  # too late: its hub had not read "1.30"
    log.add(record(ChangeKind.REPEAT, "snapshot", "1.30", 4, "1.47"))
    log.add(record(ChangeKind.CHANGE, "merge-patch", "1.50", 1))
    states = await search(log)
    assert states.replicas["missing"].is_asking
    assert states.topics["s"].text == '{"4":4,"1":1}'


async def test_what_was_lost_meanwhile_is_searched_again() -> None:
    log = ListLog()
    log.add(record(ChangeKind.CHANGE, "snapshot", "", 1))
    states = States()

    def lose() -> list[Entry]:
        states.losses += 1
        return []

    log.broken["read_backward"] = lose
    async with log.connect() as session:
        await find_states(session, states, look_back=0, skipped=lambda entry, reason: None)
    assert states.loaded == []


async def test_of_snapshots_that_may_have_come_too_late_the_best_is_taken_if_no_hub_knows_better() -> None:
    log = ListLog()
    log.number = 50
    for kind, event, base, number in (
        (ChangeKind.REPEAT, "snapshot", "1.20", 1),  # too late
        (ChangeKind.REPEAT, "snapshot", "1.30", 2),
        (ChangeKind.REPEAT, "snapshot", "1.30", 0),  # the second one
        (ChangeKind.CHANGE, "merge-patch", "1.52", 3),
        (ChangeKind.REPEAT, "snapshot", "1.40", 4),  # too late, too
    ):
        log.add(record(kind, event, base, number))
    log.entries = [entry._replace(id=f"1-{index}") for index, entry in enumerate(log.entries, 1)]
    states = await search(log)
    replica, topic = states.replicas["s"], states.topics["s"]
    assert replica.is_asking
    replica.give_up(log.number)  # no hub knows better
    assert topic.text == '{"2":2,"3":3}'
