"""The types of frames: RFC 9113, 6.1 to 6.8 and 6.10."""

from __future__ import annotations

from .case import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    POST,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WHOLE,
    Case,
    block,
    frame,
    post,
    request,
    setting,
    stream,
)

ONE = block(GET)
PRE, MID, END = ONE[:2], ONE[2:5], ONE[5:]
SIZE, PROTOCOL = "GOAWAY FRAME_SIZE_ERROR", "GOAWAY PROTOCOL_ERROR"
OPENED = frame(HEADERS, END_STREAM, 1, PRE)

CASES = (
    # DATA
    Case(
        "6.1",
        "DATA with padding",
        (post(1) + frame(DATA, PADDED | END_STREAM, 1, b"\x05abc" + bytes(5)),),
        "1: 200; 1: 3 bytes",
    ),
    Case(
        "6.1",
        "DATA that is only padding",
        (post(1) + frame(DATA, PADDED | END_STREAM, 1, b"\x02\0\0"),),
        "1: 200",
    ),
    Case(
        "6.1",
        "DATA with as much padding as payload",
        (post(1) + frame(DATA, PADDED, 1, b"\x03\0\0"),),
        PROTOCOL,
    ),
    Case("6.1", "DATA without its padding's length", (post(1) + frame(DATA, PADDED, 1),), SIZE),
    Case("6.1", "DATA on stream 0", (frame(DATA, END_STREAM, 0, b"x"),), PROTOCOL),
    # HEADERS
    Case(
        "6.2",
        "HEADERS with padding",
        (frame(HEADERS, WHOLE | PADDED, 1, b"\x03" + ONE + bytes(3)),),
        "1: 200",
    ),
    Case(
        "6.2",
        "HEADERS with padding and priority",
        (frame(HEADERS, WHOLE | PADDED | PRIORITIZED, 1, b"\x01\0\0\0\0\0" + ONE + bytes(1)),),
        "1: 200",
    ),
    Case(
        "6.2", "HEADERS with too much padding", (frame(HEADERS, WHOLE | PADDED, 1, b"\x60" + ONE),), PROTOCOL
    ),
    Case("6.2", "HEADERS without their padding's length", (frame(HEADERS, WHOLE | PADDED, 1),), SIZE),
    Case(
        "6.2", "HEADERS too short for a priority", (frame(HEADERS, WHOLE | PRIORITIZED, 1, bytes(4)),), SIZE
    ),
    Case("6.2", "HEADERS on stream 0", (request(0),), PROTOCOL),
    Case(
        "6.2", "HEADERS, and PRIORITY before their end", (OPENED + frame(PRIORITY, 0, 1, bytes(5)),), PROTOCOL
    ),
    Case("6.2", "HEADERS, and those of another stream before their end", (OPENED + request(3),), PROTOCOL),
    # PRIORITY
    Case("6.3", "PRIORITY on stream 0", (frame(PRIORITY, 0, 0, bytes(5)),), PROTOCOL),
    Case("6.3", "PRIORITY of 4 bytes", (stream(1) + frame(PRIORITY, 0, 1, bytes(4)),), "1: FRAME_SIZE_ERROR"),
    Case("6.3", "PRIORITY of 4 bytes, idle", (frame(PRIORITY, 0, 1, bytes(4)),), SIZE),
    Case(
        "6.3",
        "PRIORITY of 6 bytes, closed",
        (request(1), "1: end", frame(PRIORITY, 0, 1, bytes(6))),
        "1: FRAME_SIZE_ERROR",
    ),
    # RST_STREAM
    Case("6.4", "RST_STREAM on stream 0", (frame(RST_STREAM, 0, 0, bytes(4)),), PROTOCOL),
    Case("6.4", "RST_STREAM on an idle stream", (request(1) + frame(RST_STREAM, 0, 3, bytes(4)),), PROTOCOL),
    Case("6.4", "RST_STREAM of 3 bytes", (stream(1) + frame(RST_STREAM, 0, 1, bytes(3)),), SIZE),
    Case("6.4", "RST_STREAM of 5 bytes", (stream(1) + frame(RST_STREAM, 0, 1, bytes(5)),), SIZE),
    Case("7", "RST_STREAM with an unknown code", (stream(1) + frame(RST_STREAM, 0, 1, b"\xff" * 4),)),
    # SETTINGS
    Case("6.5", "SETTINGS are acknowledged", (setting((3, 100)),), "ACK"),
    Case("6.5", "an empty SETTINGS frame", (setting(),), "ACK"),
    Case("6.5", "an acknowledgement", (frame(SETTINGS, ACK, 0),)),
    Case("6.5", "an acknowledgement with a payload", (frame(SETTINGS, ACK, 0, bytes(6)),), SIZE),
    Case("6.5", "SETTINGS on a stream", (stream(1) + frame(SETTINGS, 0, 1),), PROTOCOL),
    Case("6.5", "SETTINGS of 5 bytes", (frame(SETTINGS, 0, 0, bytes(5)),), SIZE),
    Case("6.5", "SETTINGS of 7 bytes", (frame(SETTINGS, 0, 0, bytes(7)),), SIZE),
    Case("6.5.2", "SETTINGS_ENABLE_PUSH 0", (setting((2, 0)),), "ACK"),
    Case("6.5.2", "SETTINGS_ENABLE_PUSH 2", (setting((2, 2)),), PROTOCOL),
    Case("6.5.2", "SETTINGS_INITIAL_WINDOW_SIZE 2^31", (setting((4, 1 << 31)),), "GOAWAY FLOW_CONTROL_ERROR"),
    Case("6.5.2", "SETTINGS_MAX_FRAME_SIZE 16,383", (setting((5, 16383)),), PROTOCOL),
    Case("6.5.2", "SETTINGS_MAX_FRAME_SIZE 2^24", (setting((5, 1 << 24)),), PROTOCOL),
    Case("6.5.2", "SETTINGS_MAX_FRAME_SIZE 2^24 - 1", (setting((5, (1 << 24) - 1)) + request(1),), "1: 200"),
    Case("6.5.2", "SETTINGS_MAX_CONCURRENT_STREAMS 0", (setting((3, 0)) + request(1),), "1: 200"),
    Case(
        "6.5.2", "SETTINGS_MAX_HEADER_LIST_SIZE 2^32 - 1", (setting((6, 2**32 - 1)) + request(1),), "1: 200"
    ),
    Case(
        "6.5.3",
        "a setting twice: the last one counts",
        (setting((4, 100), (4, 1)) + request(1),),
        "1: 1 bytes",
    ),
    Case(
        "6.5.3", "values in order: a wrong one between right ones", (setting((5, 16384), (5, 1)),), PROTOCOL
    ),
    Case("RFC 8441, 3", "SETTINGS_ENABLE_CONNECT_PROTOCOL 2", (setting((8, 2)),), PROTOCOL),
    # PUSH_PROMISE
    Case(
        "8.4",
        "PUSH_PROMISE",
        (stream(1) + frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02" + ONE),),
        PROTOCOL,
    ),
    # PING
    Case("6.7", "PING", (frame(PING, 0, 0, b"12345678"),), "PONG 12345678"),
    Case("6.7", "an answer to a PING that was never sent", (frame(PING, ACK, 0, b"12345678"),)),
    Case("6.7", "PING on a stream", (stream(1) + frame(PING, 0, 1, bytes(8)),), PROTOCOL),
    Case("6.7", "PING of 6 bytes", (frame(PING, 0, 0, bytes(6)),), SIZE),
    Case("6.7", "PING of 9 bytes", (frame(PING, 0, 0, bytes(9)),), SIZE),
    # GOAWAY
    Case(
        "6.8",
        "GOAWAY, and streams go on",
        (post(1) + frame(GOAWAY, 0, 0, bytes(8)) + frame(DATA, 1, 1),),
        "1: 200",
    ),
    Case("6.8", "GOAWAY with text", (frame(GOAWAY, 0, 0, bytes(8) + b"bye"),)),
    Case("6.8", "GOAWAY on a stream", (stream(1) + frame(GOAWAY, 0, 1, bytes(8)),), PROTOCOL),
    Case("6.8", "GOAWAY of 7 bytes", (frame(GOAWAY, 0, 0, bytes(7)),), SIZE),
    # CONTINUATION
    Case(
        "6.10",
        "two CONTINUATION frames",
        (OPENED + frame(CONTINUATION, 0, 1, MID) + frame(CONTINUATION, END_HEADERS, 1, END),),
        "1: 200; 1: end",
    ),
    Case(
        "6.10",
        "an empty CONTINUATION frame",
        (frame(HEADERS, END_STREAM, 1, ONE) + frame(CONTINUATION, END_HEADERS, 1),),
        "1: 200",
    ),
    Case(
        "6.10",
        "END_STREAM of a CONTINUATION frame is ignored",
        (
            frame(HEADERS, 0, 1, block(POST))
            + frame(CONTINUATION, WHOLE, 1)
            + frame(DATA, END_STREAM, 1, b"abc"),
        ),
        "1: 200; 1: 3 bytes",
    ),
    Case(
        "6.10",
        "CONTINUATION on stream 0",
        (OPENED + frame(CONTINUATION, END_HEADERS, 0, MID + END),),
        PROTOCOL,
    ),
    Case(
        "6.10", "CONTINUATION on another stream", (OPENED + frame(CONTINUATION, 4, 3, MID + END),), PROTOCOL
    ),
    Case(
        "6.10",
        "CONTINUATION after the end of HEADERS",
        (post(1) + frame(CONTINUATION, END_HEADERS, 1, ONE),),
        PROTOCOL,
    ),
    Case(
        "6.10",
        "CONTINUATION after the end of CONTINUATION",
        (OPENED + frame(CONTINUATION, END_HEADERS, 1, MID + END) + frame(CONTINUATION, 4, 1, ONE),),
        PROTOCOL,
    ),
    Case(
        "6.10",
        "CONTINUATION after DATA",
        (post(1) + frame(DATA, 0, 1, b"x") + frame(CONTINUATION, END_HEADERS, 1, ONE),),
        PROTOCOL,
    ),
)
