"""Connections, frames in general, and errors: RFC 9113, 3.4, 4 and 5.4 to 5.5."""

from __future__ import annotations

from trio_sse._http2.preface import PREFACE

from .case import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    SETTINGS,
    WHOLE,
    WINDOW_UPDATE,
    Case,
    block,
    frame,
    post,
    request,
    setting,
    stream,
)

HALF = len(block(GET)) // 2
FIRST, REST = block(GET)[:HALF], block(GET)[HALF:]

CASES = (
    Case("3.4", "preface, SETTINGS and a request", (PREFACE + setting(), request(1)), "1: 200; 1: end"),
    Case("3.4", "the first SETTINGS has values", (PREFACE + setting((3, 9)), request(1)), "1: 200"),
    Case("3.4", "a preface with a wrong letter", (PREFACE.replace(b"SM", b"SN"),), "closed"),
    Case("3.4", "another protocol", (b"XXX * HTTP/2.0\r\n\r\nSM\r\n\r\n",), "closed"),
    Case("3.4", "no SETTINGS", (PREFACE + request(1),), "GOAWAY PROTOCOL_ERROR"),
    Case("3.4", "PING before SETTINGS", (PREFACE + frame(PING, 0, 0, bytes(8)),), "GOAWAY PROTOCOL_ERROR"),
    Case("3.4", "an acknowledgement first", (PREFACE + frame(SETTINGS, ACK, 0),), "GOAWAY PROTOCOL_ERROR"),
    Case("3.4", "the preface twice", (PREFACE + setting() + PREFACE,), "GOAWAY FRAME_SIZE_ERROR"),
    Case("4.1", "a frame of an unknown type", (frame(0xBE, 0, 0, b"any"), request(1)), "1: 200"),
    Case("4.1", "undefined flags of PING", (frame(PING, 0xFE, 0, b"flagged."),), "PONG flagged."),
    Case("4.1", "undefined flags of HEADERS", (request(1, GET, WHOLE | 0xD2),), "1: 200"),
    Case("4.1", "the reserved bit of a stream", (frame(PING, 0, 1 << 31, b"reserved"),), "PONG reserved"),
    Case("4.1", "the reserved bit of HEADERS", (request(1 | 1 << 31),), "1: 200"),
    Case(
        "4.2",
        "DATA of 16,384 bytes",
        (post(1) + frame(DATA, END_STREAM, 1, bytes(16384)),),
        "1: 200; 1: 16384 bytes; 1: end",
    ),
    Case(
        "4.2",
        "DATA that is too large",
        (post(1) + frame(DATA, 0, 1, bytes(16385)),),
        "GOAWAY FRAME_SIZE_ERROR",
    ),
    Case(
        "4.2", "HEADERS that are too large", (frame(HEADERS, 4, 1, bytes(16385)),), "GOAWAY FRAME_SIZE_ERROR"
    ),
    Case(
        "4.2",
        "SETTINGS that are too large",
        (frame(SETTINGS, 0, 0, bytes(16386)),),
        "GOAWAY FRAME_SIZE_ERROR",
    ),
    Case(
        "4.2",
        "an unknown frame that is too large",
        (frame(99, 0, 0, bytes(16385)),),
        "GOAWAY FRAME_SIZE_ERROR",
    ),
    Case("4.2", "a length of 2^24 - 1", (b"\xff\xff\xff\0\0\0\0\0\x01",), "GOAWAY FRAME_SIZE_ERROR"),
    Case(
        "4.3",
        "a header block of two frames",
        (frame(HEADERS, END_STREAM, 1, FIRST) + frame(CONTINUATION, END_HEADERS, 1, REST),),
        "1: 200; 1: end",
    ),
    Case(
        "4.3",
        "a header block that is malformed",
        (frame(HEADERS, WHOLE, 1, b"\0"),),
        "GOAWAY COMPRESSION_ERROR",
    ),
    Case(
        "4.3",
        "PRIORITY in a header block",
        (frame(HEADERS, END_STREAM, 1, FIRST) + frame(PRIORITY, 0, 1, bytes(5)),),
        "GOAWAY PROTOCOL_ERROR",
    ),
    Case(
        "4.3",
        "HEADERS of another stream in a header block",
        (frame(HEADERS, END_STREAM, 1, FIRST) + request(3),),
        "GOAWAY PROTOCOL_ERROR",
    ),
    Case(
        "4.3",
        "DATA in a header block",
        (frame(HEADERS, 0, 1, FIRST) + frame(DATA, 0, 1, b"x"),),
        "GOAWAY PROTOCOL_ERROR",
    ),
    Case(
        "4.3",
        "WINDOW_UPDATE in a header block",
        (frame(HEADERS, 0, 1, FIRST) + frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\x01"),),
        "GOAWAY PROTOCOL_ERROR",
    ),
    Case("4.3", "an empty header block", (frame(HEADERS, WHOLE, 1),), "1: PROTOCOL_ERROR"),
    Case(
        "5.4.1",
        "after an error the connection closes",
        (stream(1) + frame(PING, 0, 0, bytes(7)) + request(3),),
        "GOAWAY FRAME_SIZE_ERROR",
    ),
    Case(
        "5.4.2",
        "after an error of a stream the others go on",
        (stream(1) + request(3, "x: y") + request(5),),
        "1: 200; 3: PROTOCOL_ERROR; 5: 200",
    ),
    Case(
        "5.5",
        "an unknown frame on a stream",
        (post(1) + frame(0x16, 0, 1, b"x") + frame(DATA, 1, 1),),
        "1: 200",
    ),
    Case("5.5", "an unknown frame on an idle stream", (frame(0x16, 0, 9, b"x") + request(1),), "1: 200"),
    Case(
        "5.5",
        "an unknown frame in a header block",
        (
            frame(HEADERS, END_STREAM, 1, FIRST)
            + frame(0x16, 0, 1)
            + frame(CONTINUATION, END_HEADERS, 1, REST),
        ),
        "GOAWAY PROTOCOL_ERROR",
    ),
    Case("5.5", "an unknown setting", (setting((0xBEEF, 1 << 31)) + request(1),), "1: 200"),
    Case(
        "7",
        "GOAWAY with an unknown code",
        (frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\xff\xff"), request(1)),
        "1: 200",
    ),
)
