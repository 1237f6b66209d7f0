"""Flow control: RFC 9113, 6.9."""

from __future__ import annotations

from .case import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    PADDED,
    UNREAD,
    WINDOW_UPDATE,
    Case,
    frame,
    post,
    request,
    setting,
    stream,
    window_update,
)

PROTOCOL, FLOW = "GOAWAY PROTOCOL_ERROR", "GOAWAY FLOW_CONTROL_ERROR"
WINDOW = 4
MOST = 2**31 - 1

CASES = (
    Case("6.9", "WINDOW_UPDATE of the connection", (window_update(0, 1) + request(1),), "1: 200"),
    Case("6.9", "WINDOW_UPDATE of a stream", (request(1) + window_update(1, 1),), "1: 200"),
    Case(
        "6.9",
        "an increment's reserved bit",
        (frame(WINDOW_UPDATE, 0, 0, b"\x80\0\0\x01"), request(1)),
        "1: 200",
    ),
    Case("6.9", "an increment of 0 for the connection", (window_update(0, 0),), PROTOCOL),
    Case("6.9", "an increment of 0 for a stream", (stream(1) + window_update(1, 0),), "1: PROTOCOL_ERROR"),
    Case(
        "6.9",
        "an increment of 0 and the reserved bit",
        (stream(1) + window_update(1, 1 << 31),),
        "1: PROTOCOL_ERROR",
    ),
    Case(
        "6.9", "WINDOW_UPDATE of 3 bytes", (frame(WINDOW_UPDATE, 0, 0, bytes(3)),), "GOAWAY FRAME_SIZE_ERROR"
    ),
    Case(
        "6.9",
        "WINDOW_UPDATE of 5 bytes on a stream",
        (stream(1) + frame(WINDOW_UPDATE, 0, 1, bytes(5)),),
        "GOAWAY FRAME_SIZE_ERROR",
    ),
    # The client's windows
    Case("6.9.1", "a window of one byte", (setting((WINDOW, 1)) + request(1),), "1: 200; 1: 1 bytes"),
    Case(
        "6.9.1",
        "a window that opens byte by byte",
        (setting((WINDOW, 1)) + request(1), "1: 1 bytes", window_update(1, 1)),
        "1: 1 bytes; 1: end",
    ),
    Case(
        "6.9.1",
        "a window of no bytes, and no body",
        (setting((WINDOW, 0)) + request(1, GET.replace("GET", "HEAD")),),
        "1: 200; 1: end",
    ),
    Case("6.9.1", "the connection's window grows too large", (window_update(0, MOST),), FLOW),
    Case("6.9.1", "the connection's window grows too large in steps", (window_update(0, 1 << 30) * 2,), FLOW),
    Case("6.9.1", "the connection's window is as large as it may be", (window_update(0, MOST - 65535),)),
    Case(
        "6.9.1",
        "a stream's window grows too large",
        (stream(1) + window_update(1, MOST) + request(3),),
        "1: FLOW_CONTROL_ERROR; 3: 200",
    ),
    Case(
        "6.9.1",
        "a stream's window grows too large in steps",
        (stream(1) + window_update(1, 1 << 30) * 2 + request(3),),
        "1: FLOW_CONTROL_ERROR; 3: 200",
    ),
    Case(
        "6.9.2",
        "the initial window changes after the request",
        (setting((WINDOW, 0)) + request(1), "1: 200", setting((WINDOW, 1))),
        "1: 200; 1: 1 bytes",
    ),
    Case(
        "6.9.2",
        "the initial window applies to new streams",
        (request(1), "1: end", setting((WINDOW, 0)) + request(3), "3: 200", window_update(3, 5)),
        "1: 2 bytes; 3: 2 bytes",
    ),
    Case(
        "6.9.2",
        "a window that is negative opens",
        (
            setting((WINDOW, 3)) + post(1) + frame(DATA, END_STREAM, 1, b"12345"),
            "1: 3 bytes",
            setting((WINDOW, 1)) + window_update(1, 3),
        ),
        "1: 3 bytes; 1: 1 bytes",
    ),
    Case(
        "6.9.2",
        "the change makes a window too large",
        (stream(1) + window_update(1, 1 << 30) + setting((WINDOW, MOST)),),
        FLOW,
    ),
    Case(
        "6.9.2",
        "SETTINGS do not change the connection's window",
        (setting((WINDOW, MOST)) + window_update(0, MOST - 65535),),
    ),
    # Our windows
    Case(
        "6.9",
        "more DATA than a stream's window",
        (request(1, UNREAD, END_HEADERS) + b"".join([frame(DATA, 0, 1, bytes(16384))] * 5) + request(3),),
        "1: FLOW_CONTROL_ERROR; 3: 200",
    ),
    Case(
        "6.9",
        "as much DATA as a stream's window",
        (
            post(1)
            + b"".join([frame(DATA, 0, 1, bytes(16384))] * 3)
            + frame(DATA, END_STREAM, 1, bytes(16383)),
        ),
        "1: 200; 1: 16384 bytes",
    ),
    Case(
        "6.9.1",
        "padding counts for the window",
        (request(1, UNREAD, END_HEADERS) + b"".join([frame(DATA, PADDED, 1, b"\xff" + bytes(255))] * 257),),
        "+1",
    ),
    Case(
        "6.9.1",
        "an empty DATA frame needs no window",
        (
            post(1)
            + b"".join([frame(DATA, 0, 1, bytes(16384))] * 3)
            + frame(DATA, 0, 1, bytes(16383))
            + frame(DATA, END_STREAM, 1),
        ),
        "1: 200; 1: 16384 bytes",
    ),
)
