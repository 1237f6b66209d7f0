"""The client's side of a case: what it has received, in the words of `spec.case.Case.expected`."""

from __future__ import annotations

import struct

import hpack

from trio_sse._http2.error_code import ErrorCode
from trio_sse._http2.frames import FrameReader
from trio_sse._http2.preface import PREFACE

from .spec.case import (
    ACK,
    CONTINUATION,
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    Case,
    frame,
    setting,
)

_SETTING = struct.Struct(">HI")

PROBE = b"probe..."


class Peer:
    """Collects what a server sends, and compares it with what a case expects."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.seen: list[str] = []
        self.is_probed = False
        self.is_finished = False  # GOAWAY with an error, or the end of the connection
        self._reader = FrameReader()
        self._decoder = hpack.Decoder()
        self._settings = 0
        self._table_sizes = self._sent_table_sizes()

    def parts(self) -> list[bytes | str]:
        """Return what the client sends, in order; a text waits until that was received."""
        if self.case.is_raw:
            return list(self.case.sent)
        parts: list[bytes | str] = [PREFACE + setting()]
        for part in self.case.sent:
            if isinstance(part, bytes) and isinstance(parts[-1], bytes):
                parts[-1] += part
            else:
                parts.append(part)
        return parts

    def _sent_table_sizes(self) -> list[int | None]:
        """Return the size that each SETTINGS frame sets for the table of our decoder."""
        reader, sizes = FrameReader(1 << 24), []
        reader.feed(b"".join([part for part in self.parts() if isinstance(part, bytes)])[len(PREFACE) :])
        while (sent := reader.take()) is not None:
            if sent.type == SETTINGS and not sent.flags & ACK:
                found = dict(_SETTING.iter_unpack(sent.payload)) if len(sent.payload) % 6 == 0 else {}
                sizes.append(found.get(1))
        return sizes

    def receive(self, data: bytes) -> None:
        """Take what the server has sent."""
        self._reader.feed(data)
        while (received := self._reader.take()) is not None:
            self._receive(*received)

    def _receive(self, type: int, flags: int, stream_id: int, payload: bytes) -> None:
        assert self._settings or type == SETTINGS
        if type == SETTINGS:
            self._settings += 1
            if flags & ACK:
                self.seen.append("ACK")
                if self._table_sizes and (size := self._table_sizes.pop(0)) is not None:
                    self._decoder.max_allowed_table_size = size
        elif type == HEADERS:
            for name, value in self._decoder.decode(payload, raw=True):
                if name == b":status":
                    self.seen.append(f"{stream_id}: {value.decode()}")
        elif type == DATA and payload:
            self.seen.append(f"{stream_id}: {len(payload)} bytes")
        elif type == RST_STREAM:
            self.seen.append(f"{stream_id}: {ErrorCode(int.from_bytes(payload)).name}")
        elif type == PING and payload == PROBE:
            self.is_probed = True
        elif type == PING:
            assert flags == ACK
            self.seen.append(f"PONG {payload.decode('latin-1')}")
        elif type == GOAWAY:
            self.is_finished = True
            self.seen.append(f"GOAWAY {ErrorCode(int.from_bytes(payload[4:8])).name}")
        assert type != CONTINUATION
        if type in (DATA, HEADERS) and flags & END_STREAM:
            self.seen.append(f"{stream_id}: end")

    @property
    def missing(self) -> set[str]:
        """What is expected and was not received yet."""
        if self.case.expected == "closed":
            return set() if self.is_finished else {"closed"}
        expected = {text for text in self.case.expected.split("; ") if text and text[0] != "+"}
        return expected - set(self.seen)

    def surprises(self) -> list[str]:
        """Return errors that were received and are not expected."""
        expected = self.case.expected.split("; ")
        names = {code.name for code in ErrorCode}
        errors = [text for text in self.seen if text.split()[-1] in names]
        if expected == ["closed"]:
            return [text for text in errors if text != "GOAWAY PROTOCOL_ERROR"]
        free = tuple(f"{text[1:]}: " for text in expected if text[:1] == "+")
        return [text for text in errors if text not in expected and not (free and text.startswith(free))]


def probe() -> bytes:
    """Return a PING whose answer comes after everything else."""
    return frame(PING, 0, 0, PROBE)
