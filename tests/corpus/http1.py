"""Sending all cases of a file to one server, each on a connection of its own, and what has come of them."""

from __future__ import annotations

from collections.abc import Sequence

import trio
import trio.testing

from ..support.serving import running
from ..support.waiting import SECONDS
from ..support.websocket_client import HANDSHAKE
from .answers import Answers, parse
from .case import Case
from .connection import ScriptedStream
from .subjects import Subject, connection_number

AFTER = b"GET /after HTTP/1.1\r\nHost: test\r\n\r\n"
_BYSTANDER = AFTER.replace(b"after", b"bystander")
_HOST = b"\r\nHost:"

# Large requests do not come byte by byte, but in pieces of this size.
_SMALL, _PIECE = 600, 997

# What makes a request a poll, or the handshake of a WebSocket.
_MORE_LINES = {
    "poll": b"\r\nAccept: application/json",
    "websocket": b"".join([b"\r\n" + line.encode() for line in HANDSHAKE]),
}


class Sent:
    """A case that is sent on a connection."""

    def __init__(self, case: Case, host: str, piece: int, first: int, *, is_pipelined: bool) -> None:
        self.case, self.host = case, host
        self.raw = adapted(case.raw, host)
        self.stream = ScriptedStream(piece if len(self.raw) < _SMALL else _PIECE * piece, first)
        self.is_pipelined = is_pipelined
        self.first: Answers | None = None

    def send(self) -> None:
        """Send the request; a pipelined one with another one behind it."""
        self.stream.write(self.raw + AFTER if self.is_pipelined else self.raw)

    def send_after(self) -> None:
        """Send another request behind one that was answered."""
        self.first = self.parse()
        is_answered = self.first.statuses[-1:] not in ([], ["100"])
        if is_answered and not (self.first.is_open or self.stream.is_ended or self.is_pipelined):
            self.stream.write(AFTER)

    def parse(self) -> Answers:
        """Parse what has come."""
        is_head = self.raw.lstrip(b"\r\n").startswith(b"HEAD ")
        return parse(bytes(self.stream.sent), is_head=is_head, is_ended=self.stream.is_ended)

    def outcome(self, entered: int) -> str:
        """Return what has come of it."""
        first, all = self.first, self.parse()
        assert first is not None
        is_kept = all.bodies[-1:] == [b"after"]
        statuses = all.statuses[:-1] if is_kept else all.statuses
        if statuses[-1:] != ["100"]:  # a client that sends byte by byte may be asked to go on
            statuses = [status for status in statuses if status != "100"]
        if not statuses:
            words = ["closed" if first.faults or self._has_ended_early else "waits"]
        elif statuses[-1] == "100":
            words = [*statuses, "waits"]
        elif all.is_open:
            words = [",".join(statuses), all.begins_with or "open"]
        elif statuses[-1] == "101":
            words = ["101"]
        else:
            words = [",".join(statuses), "keep" if is_kept else "close"]
            if all.begins_with:
                words[1] = all.begins_with
            if first.says_close == is_kept and not self.is_pipelined:
                words.append("silently")
        if entered != statuses.count("200") + statuses.count("101"):
            words.append(f"entered {entered}")
        words += all.faults
        words += [
            body.decode() for body, status in zip(all.bodies, all.statuses, strict=False) if status == "503"
        ]
        return " ".join(words)

    _has_ended_early = False

    def note_end(self) -> None:
        """Note whether the server has ended the connection by itself."""
        self._has_ended_early = self.stream.is_ended


def adapted(raw: bytes, host: str) -> bytes:
    """Return the request as one of a poll or a WebSocket."""
    return raw.replace(_HOST, _MORE_LINES.get(host, b"") + _HOST, 1)


def fits(case: Case, host: str) -> bool:
    """Return whether a case can be sent to a host."""
    if host == "websocket" and not case.raw.startswith((b"GET ", b"\r\nGET ")):
        return False
    return host not in _MORE_LINES or _HOST in case.raw


def expected(case: Case, host: str, piece: int) -> str:
    """Return what must come of a case."""
    outcome = case.outcome(host) if piece > 1 else case.outcome(f"{host}-bytes", "bytes", host)
    if host == "websocket" and host not in case.outcomes and outcome.startswith("200"):
        return "101"
    return outcome


async def run(
    subject: Subject, host: str, cases: Sequence[Case], clock: trio.testing.MockClock, piece: int
) -> list[str]:
    """Send the cases, all at once; return what has come otherwise than it must."""
    can_pipeline = host in ("endpoint", "app") and piece > 1
    sent: list[Sent] = []
    for case in cases:
        if fits(case, host) and (right := expected(case, host, piece)) != "-":
            # What it begins with as the one before has come byte by byte already.
            first = _shared(sent[-1].raw, adapted(case.raw, host)) if sent else 0
            is_pipelined = can_pipeline and "waits" not in right
            sent.append(Sent(case, host, piece, first, is_pipelined=is_pipelined))
    failures = []
    with trio.fail_after(SECONDS):
        async with running(subject.server.hub) as nursery:
            await nursery.start(subject.server.serve_in_memory)  # so that the app is up all the time
            bystander = ScriptedStream(1024)
            bystander.write(_BYSTANDER)
            for number, stream in enumerate([bystander, *(one.stream for one in sent)], -1):
                connection_number.set(number)
                nursery.start_soon(subject.server.serve_stream, stream)
            for one in sent:
                one.send()
            await _settle(clock)
            for one in sent:
                one.send_after()
            await _settle(clock)
            for one in sent:
                one.note_end()
                one.stream.end()
            await _settle(clock)
            for number, one in enumerate(sent):
                outcome = one.outcome(subject.entered[number])
                if not one.stream.is_closed:
                    outcome += " left open"
                if outcome != (right := expected(one.case, host, piece)):
                    text, rule = one.case.text[:200], one.case.rule
                    failures.append(f"{one.case.place}: {text!r}: {outcome}, not {right} ({rule})")
            published = subject.server.hub.statistics().published
            await subject.server.hub.publish("bystander", "still here")
            await _settle(clock)
            if published or bystander.sent.count(b"data: still here\n\n") != 1:
                failures.append(f"{published} published; a bystander got {bytes(bystander.sent)!r}")
    return failures + [f"smuggled: {path}" for path in subject.paths if "smuggled" in path]


def _shared(before: bytes, raw: bytes) -> int:
    """Return how many bytes both begin with."""
    return next((place for place, (a, b) in enumerate(zip(before, raw, strict=False)) if a != b), 0)


async def _settle(clock: trio.testing.MockClock) -> None:
    """Let the server do all it has to do now, and within the next second."""
    await trio.testing.wait_all_tasks_blocked()
    clock.jump(1)
    await trio.testing.wait_all_tasks_blocked()
