"""Streams: RFC 9113, 5.1 and 5.3."""

from __future__ import annotations

from .case import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    MAX_STREAMS,
    PRIORITIZED,
    PRIORITY,
    RST_STREAM,
    WHOLE,
    Case,
    block,
    frame,
    post,
    request,
    stream,
    window_update,
)

CANCEL = (8).to_bytes(4)
RESET = frame(RST_STREAM, 0, 1, CANCEL)
DEPENDENCY = b"\0\0\0\x01\x0f"  # on stream 1
ONE = block(GET)

CASES = (
    # Idle
    Case("5.1", "idle: HEADERS", (request(1),), "1: 200; 1: 2 bytes; 1: end"),
    Case("5.1", "idle: PRIORITY", (frame(PRIORITY, 0, 3, DEPENDENCY) + request(1),), "1: 200"),
    Case("5.1", "idle: DATA", (frame(DATA, END_STREAM, 1, b"x"),), "GOAWAY PROTOCOL_ERROR"),
    Case("5.1", "idle: RST_STREAM", (RESET,), "GOAWAY PROTOCOL_ERROR"),
    Case("5.1", "idle: WINDOW_UPDATE", (window_update(1, 100),), "GOAWAY PROTOCOL_ERROR"),
    Case("5.1", "idle: CONTINUATION", (frame(CONTINUATION, END_HEADERS, 1, ONE),), "GOAWAY PROTOCOL_ERROR"),
    Case("5.1", "idle and of the server: WINDOW_UPDATE", (window_update(2, 1),), "GOAWAY PROTOCOL_ERROR"),
    # Open
    Case(
        "5.1",
        "open: DATA",
        (post(1) + frame(DATA, 0, 1, b"ab") + frame(DATA, END_STREAM, 1, b"c"),),
        "1: 200; 1: 3 bytes",
    ),
    Case("5.1", "open: PRIORITY", (post(1) + frame(PRIORITY, 0, 1, bytes(5)) + frame(DATA, 1, 1),), "1: 200"),
    Case("5.1", "open: WINDOW_UPDATE", (post(1) + window_update(1, 9) + frame(DATA, 1, 1),), "1: 200"),
    Case("5.1", "open: RST_STREAM", (post(1) + RESET + request(3),), "3: 200"),
    # Half-closed by the client
    Case("5.1", "half-closed: PRIORITY", (stream(1) + frame(PRIORITY, 0, 1, bytes(5)),), "1: 200"),
    Case("5.1", "half-closed: WINDOW_UPDATE", (stream(1) + window_update(1, 9),), "1: 200"),
    Case("5.1", "half-closed: RST_STREAM", (stream(1) + RESET + request(3),), "3: 200"),
    Case("5.1", "half-closed: DATA", (stream(1) + frame(DATA, END_STREAM, 1, b"x"),), "1: STREAM_CLOSED"),
    Case("5.1", "half-closed: empty DATA", (stream(1) + frame(DATA, 0, 1),), "1: STREAM_CLOSED"),
    Case("5.1", "half-closed: HEADERS", (stream(1) + request(1),), "1: STREAM_CLOSED"),
    Case(
        "5.1",
        "half-closed: CONTINUATION",
        (stream(1) + frame(CONTINUATION, 4, 1, ONE),),
        "GOAWAY PROTOCOL_ERROR",
    ),
    # Closed by RST_STREAM of the client
    Case("5.1", "reset by the client: PRIORITY", (stream(1) + RESET + frame(PRIORITY, 0, 1, bytes(5)),)),
    Case("5.1", "reset by the client: WINDOW_UPDATE", (stream(1) + RESET + window_update(1, 9),)),
    Case("5.1", "reset by the client: RST_STREAM", (stream(1) + RESET * 2,)),
    Case(
        "5.1",
        "reset by the client: DATA",
        (post(1) + RESET + frame(DATA, 0, 1, b"x"),),
        "GOAWAY STREAM_CLOSED",
    ),
    Case("5.1", "reset by the client: HEADERS", (stream(1) + RESET + request(1),), "GOAWAY STREAM_CLOSED"),
    Case(
        "5.1",
        "reset by the client: CONTINUATION",
        (stream(1) + RESET + frame(CONTINUATION, END_HEADERS, 1, ONE),),
        "GOAWAY PROTOCOL_ERROR",
    ),
    # Closed by RST_STREAM of the server
    Case(
        "5.1",
        "reset by the server: what was on its way",
        (post(1, "|:late: 1") + frame(DATA, 0, 1, b"x") + window_update(1, 9) + RESET + request(3),),
        "1: PROTOCOL_ERROR; 3: 200",
    ),
    Case(
        "5.1",
        "reset by the server: trailers",
        (post(1, "|:late: 1") + request(1, "x: y"),),
        "1: PROTOCOL_ERROR",
    ),
    # Closed by the ends of both
    Case("5.1", "closed: PRIORITY", (request(1), "1: end", frame(PRIORITY, 0, 1, bytes(5))), "1: end"),
    Case("5.1", "closed: WINDOW_UPDATE", (request(1), "1: end", window_update(1, 9)), "1: end"),
    Case("5.1", "closed: RST_STREAM", (request(1), "1: end", RESET), "1: end"),
    Case("5.1", "closed: DATA", (request(1), "1: end", frame(DATA, 0, 1, b"x")), "GOAWAY STREAM_CLOSED"),
    Case("5.1", "closed: HEADERS", (request(1), "1: end", request(1)), "GOAWAY STREAM_CLOSED"),
    Case(
        "5.1",
        "closed: CONTINUATION",
        (request(1), "1: end", frame(CONTINUATION, 4, 1, ONE)),
        "GOAWAY PROTOCOL_ERROR",
    ),
    # Identifiers
    Case("5.1.1", "an even identifier", (request(2),), "GOAWAY PROTOCOL_ERROR"),
    Case(
        "5.1.1",
        "an identifier that is smaller than the last",
        (request(5) + request(3),),
        "GOAWAY PROTOCOL_ERROR",
    ),
    Case(
        "5.1.1",
        "identifiers that skip some",
        (request(1) + request(7) + request(9),),
        "1: 200; 7: 200; 9: 200",
    ),
    Case("5.1.1", "the largest identifier", (request(2**31 - 1),), f"{2**31 - 1}: 200"),
    Case(
        "5.1.1",
        "DATA on a skipped identifier",
        (request(5) + frame(DATA, 0, 3, b"x"),),
        "GOAWAY STREAM_CLOSED",
    ),
    # Concurrency
    Case(
        "5.1.2",
        "one stream too many",
        (b"".join([stream(id) for id in range(1, 2 * MAX_STREAMS + 2, 2)]),),
        f"1: 200; {2 * MAX_STREAMS - 1}: 200; {2 * MAX_STREAMS + 1}: REFUSED_STREAM",
    ),
    Case(
        "5.1.2",
        "streams that have ended make room",
        (b"".join([stream(id) for id in range(1, 2 * MAX_STREAMS, 2)]) + RESET + request(41),),
        "41: 200",
    ),
    Case(
        "5.1.2",
        "a refused stream's header block counts",
        (
            b"".join([stream(id) for id in range(1, 2 * MAX_STREAMS, 2)])
            + frame(HEADERS, WHOLE, 31, ONE + b"\x40\x01x\x01y")
            + RESET
            + frame(HEADERS, WHOLE, 33, ONE + b"\xbe"),
        ),
        "31: REFUSED_STREAM; 33: 200",
    ),
    # Priorities, which are deprecated
    Case(
        "5.3",
        "HEADERS with a priority",
        (frame(HEADERS, WHOLE | PRIORITIZED, 3, DEPENDENCY + ONE),),
        "3: 200",
    ),
    Case(
        "5.3",
        "HEADERS with an exclusive priority",
        (frame(HEADERS, WHOLE | PRIORITIZED, 3, b"\x80" + DEPENDENCY[1:] + ONE),),
        "3: 200",
    ),
    Case(
        "5.3.1",
        "HEADERS that depend on themselves",
        (frame(HEADERS, WHOLE | PRIORITIZED, 1, DEPENDENCY + ONE) + request(3),),
        "1: PROTOCOL_ERROR; 3: 200",
    ),
    Case(
        "5.3.1",
        "PRIORITY that depends on itself",
        (stream(1) + frame(PRIORITY, 0, 1, DEPENDENCY),),
        "1: PROTOCOL_ERROR",
    ),
    Case(
        "5.3.1",
        "PRIORITY that depends on itself, idle",
        (frame(PRIORITY, 0, 1, DEPENDENCY),),
        "GOAWAY PROTOCOL_ERROR",
    ),
)
