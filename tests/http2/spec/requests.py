"""Requests: RFC 9113, 8.1 to 8.5, and RFC 8441."""

from __future__ import annotations

from .case import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    RST_STREAM,
    UNREAD,
    WHOLE,
    Case,
    block,
    frame,
    post,
    request,
    stream,
)

LAST = frame(DATA, END_STREAM, 1, b"abc")
MALFORMED = "1: PROTOCOL_ERROR; 3: 200"
LARGE = block(f"{GET}|x: {'~' * 16384}")
CONNECT = ":method: CONNECT|:protocol: websocket|:scheme: http|:authority: localhost|:path: /socket"


def malformed(section: str, name: str, text: str) -> Case:
    """Return the case of a request that is malformed, after which another one is answered."""
    return Case(section, name, (request(1, text) + request(3),), MALFORMED)


def without(name: str) -> str:
    """Return the request without a field."""
    return "|".join(field for field in GET.split("|") if not field.startswith(f"{name}: "))


CASES = (
    # Messages
    Case("8.1", "GET", (request(1),), "1: 200; 1: 2 bytes; 1: end"),
    Case("8.1", "HEAD", (request(1, GET.replace("GET", "HEAD")),), "1: 200; 1: end"),
    Case("8.1", "POST", (post(1) + LAST,), "1: 200; 1: 3 bytes; 1: end"),
    Case("8.1", "POST with Content-Length", (post(1, "|content-length: 3") + LAST,), "1: 200; 1: 3 bytes"),
    Case("8.1", "POST without a body", (request(1, GET.replace("GET", "POST") + "echo"),), "1: 200; 1: end"),
    Case(
        "8.1",
        "two requests at once",
        (stream(1) + post(3) + request(5) + frame(DATA, 1, 3, b"x"),),
        "1: 200; 3: 200; 5: 200",
    ),
    Case("8.1", "a path that is not there", (request(1, GET + "absent"),), "1: 404; 1: end"),
    Case(
        "8.1",
        "an answer before the end of the request",
        (
            request(1, GET.replace("GET", "POST") + "absent", END_HEADERS),
            "1: end",
            LAST + request(3),
        ),
        "1: 404; 1: end; 3: 200; +1",
    ),
    Case(
        "8.1",
        "trailers",
        (post(1) + frame(DATA, 0, 1, b"abc") + request(1, "x-sum: 1"),),
        "1: 200; 1: 3 bytes",
    ),
    Case(
        "8.1",
        "trailers without END_STREAM",
        (post(1) + frame(DATA, 0, 1, b"abc") + request(1, "x-sum: 1", END_HEADERS) + request(3),),
        MALFORMED,
    ),
    Case("8.1", "a second head", (post(1) + post(1) + request(3),), MALFORMED),
    Case(
        "8.1",
        "trailers twice",
        (request(1, UNREAD, END_HEADERS) + request(1, "a: 1") + request(1, "b: 1") + request(3),),
        "1: STREAM_CLOSED; 3: 200",
    ),
    Case(
        "8.1",
        "trailers with a pseudo-header field",
        (post(1) + request(1, ":path: /") + request(3),),
        MALFORMED,
    ),
    Case("8.1", "trailers with an upper-case name", (post(1) + request(1, "X: y") + request(3),), MALFORMED),
    Case(
        "8.1",
        "trailers with a Content-Length",
        (post(1) + request(1, "content-length: 3") + request(3),),
        MALFORMED,
    ),
    # Content-Length and DATA
    Case(
        "8.1.1",
        "less DATA than Content-Length",
        (post(1, "|content-length: 4") + LAST + request(3),),
        MALFORMED,
    ),
    Case(
        "8.1.1",
        "more DATA than Content-Length",
        (post(1, "|content-length: 2") + LAST + request(3),),
        MALFORMED,
    ),
    Case(
        "8.1.1",
        "more DATA than Content-Length, in pieces",
        (post(1, "|content-length: 4") + frame(DATA, 0, 1, b"abc") + LAST + request(3),),
        MALFORMED,
    ),
    Case(
        "8.1.1",
        "no DATA, and a Content-Length",
        (request(1, GET.replace("GET", "POST") + "echo|content-length: 1") + request(3),),
        MALFORMED,
    ),
    Case(
        "8.1.1",
        "trailers before the end of Content-Length",
        (post(1, "|content-length: 4") + frame(DATA, 0, 1, b"abc") + request(1, "x: y") + request(3),),
        MALFORMED,
    ),
    Case(
        "8.1.1",
        "padding is not part of the body",
        (post(1, "|content-length: 3") + frame(DATA, END_STREAM | 8, 1, b"\x02abc\0\0"),),
        "1: 200; 1: 3 bytes",
    ),
    malformed("8.1.1", "a Content-Length that is not a number", f"{GET}|content-length: 0x0"),
    malformed("8.1.1", "two values of Content-Length", f"{GET}|content-length: 0|content-length: 0"),
    malformed("8.1.1", "a list as Content-Length", f"{GET}|content-length: 0, 0"),
    # Fields
    malformed("8.2.1", "a name in upper case", f"{GET}|X-Test: y"),
    malformed("8.2.1", "a name with a space", f"{GET}|x test: y"),
    malformed("8.2.1", "a name with a control character", f"{GET}|x\ttest: y"),
    malformed("8.2.1", "a name above ASCII", f"{GET}|x-\xe9: y"),
    malformed("8.2.1", "a name with a colon", f"{GET}|x:test: y"),
    malformed("8.2.1", "an empty name", f"{GET}|: y"),
    malformed("8.2.1", "a value with a zero byte", f"{GET}|x: a\0b"),
    malformed("8.2.1", "a value with a line feed", f"{GET}|x: a\nb"),
    malformed("8.2.1", "a value with another field", f"{GET}|x: a\r\nhost: b"),
    malformed("8.2.1", "a value that begins with a space", f"{GET}|x:  a"),
    malformed("8.2.1", "a value that ends with a tab", f"{GET}|x: a\t"),
    malformed("8.2.2", "Connection", f"{GET}|connection: keep-alive"),
    malformed("8.2.2", "Keep-Alive", f"{GET}|keep-alive: timeout=5"),
    malformed("8.2.2", "Proxy-Connection", f"{GET}|proxy-connection: keep-alive"),
    malformed("8.2.2", "Transfer-Encoding", f"{GET}|transfer-encoding: chunked"),
    malformed("8.2.2", "Upgrade", f"{GET}|upgrade: h2c"),
    malformed("8.2.2", "TE with other than trailers", f"{GET}|te: trailers, deflate"),
    Case("8.2.2", "TE with trailers", (request(1, f"{GET}|te: trailers"),), "1: 200"),
    Case("8.2.3", "several cookies", (request(1, f"{GET}|cookie: a=1|cookie: b=2"),), "1: 200"),
    Case("8.2.3", "many fields", (request(1, GET + "|x: y" * 101),), "1: 431; 1: end"),
    Case(
        "8.2.3",
        "a large field",
        (frame(HEADERS, END_STREAM, 1, LARGE[:16384]) + frame(CONTINUATION, END_HEADERS, 1, LARGE[16384:]),),
        "1: 431; 1: end",
    ),
    # Pseudo-header fields
    malformed("8.3", "an unknown pseudo-header field", f"{GET}|:test: ok"),
    malformed("8.3", "a pseudo-header field of responses", f"{GET}|:status: 200"),
    malformed("8.3", "a pseudo-header field after others", without(":path") + "|x: y|:path: /"),
    malformed("8.3.1", "no :method", without(":method")),
    malformed("8.3.1", "no :scheme", without(":scheme")),
    malformed("8.3.1", "no :path", without(":path")),
    malformed("8.3.1", "an empty :path", without(":path") + "|:path: "),
    malformed("8.3.1", "a :path without its slash", without(":path") + "|:path: a/b"),
    malformed("8.3.1", "an absolute :path", without(":path") + "|:path: http://localhost/"),
    malformed("8.3.1", "a :path with a space", without(":path") + "|:path: /a b"),
    malformed("8.3.1", ":method twice", f":method: GET|{GET}"),
    malformed("8.3.1", ":scheme twice", f":scheme: http|{GET}"),
    malformed("8.3.1", ":path twice", f":path: /|{GET}"),
    malformed("8.3.1", ":authority twice", f":authority: localhost|{GET}"),
    malformed("8.3.1", "an empty :method", without(":method") + "|:method: "),
    malformed("8.3.1", "a :method with a space", without(":method") + "|:method: GET /a"),
    malformed("8.3.1", "another :scheme", without(":scheme") + "|:scheme: ftp"),
    malformed("8.3.1", ":authority that is not that of Host", f"{GET}|host: example.org"),
    Case("8.3.1", "Host beside :authority", (request(1, f"{GET}|host: localhost"),), "1: 200"),
    Case(
        "8.3.1",
        "Host without :authority",
        (request(1, without(":authority") + "|host: localhost"),),
        "1: 200",
    ),
    Case("8.3.1", "neither Host nor :authority", (request(1, without(":authority")),), "1: 400; 1: end"),
    Case(
        "8.3.1", ":authority with a user", (request(1, GET.replace("localhost", "me@localhost")),), "1: 400"
    ),
    Case(
        "8.3.1", "OPTIONS and *", (request(1, ":method: OPTIONS|:scheme: http|:authority: h|:path: *"),), "+1"
    ),
    Case("8.3.1", "GET and *", (request(1, without(":path") + "|:path: *"),), "1: 400"),
    Case(
        "8.5",
        "CONNECT",
        (request(1, ":method: CONNECT|:authority: h:1", END_HEADERS),),
        "1: 405; 1: NO_ERROR",
    ),
    malformed("8.5", "CONNECT with :path", ":method: CONNECT|:authority: h:1|:path: /"),
    malformed("8.5", "CONNECT without :authority", ":method: CONNECT"),
    Case(
        "8.6",
        "Upgrade to HTTP/2 by HTTP2-Settings is only a field",
        (request(1, f"{GET}|http2-settings: "),),
        "1: 200",
    ),
    Case(
        "8.7",
        "a request that was reset is not answered",
        (post(1) + frame(RST_STREAM, 0, 1, b"\0\0\0\x08") + request(3, GET, WHOLE),),
        "3: 200",
    ),
    # The extended CONNECT
    malformed("RFC 8441, 4", ":protocol of another method", f":protocol: websocket|{GET}"),
    malformed("RFC 8441, 4", ":protocol without :path", CONNECT.partition("|:path")[0]),
    malformed("RFC 8441, 4", ":protocol without :scheme", CONNECT.replace("|:scheme: http", "")),
    Case(
        "RFC 8441, 4",
        "another :protocol",
        (request(1, CONNECT.replace("websocket", "ip"), END_HEADERS),),
        "1: 501; 1: NO_ERROR",
    ),
)
