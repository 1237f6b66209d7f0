"""What our server, uvicorn and hypercorn answer to raw requests: `python -m benchmarks.exchanges`.

Each server runs the same app, without a framework. It prints a table of the exchanges in which they differ;
docs/exchanges.md has it, with a reason for each. With `--all` it prints all exchanges. All are sent several
times: where hypercorn answers the same request in several ways, the table has each.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import trio

from benchmarks.harness.paths import PEERS
from benchmarks.harness.subjects import server_of
from benchmarks.scenarios.compare import PYTHON_TARGET, VENV, install

SERVERS = {
    "trio_sse": [sys.executable, "-m", "benchmarks.servers.hosted_app", "ours", "exchanges"],
    "uvicorn": [str(VENV), str(PEERS / "uvicorn_apps.py"), "exchanges"],
    "hypercorn": [sys.executable, "-m", "benchmarks.servers.hosted_app", "hypercorn", "exchanges"],
}

_PATIENCE = 2.0

_ROUNDS = 8

# A server that an exchange ends may still answer for this long.
_LAST_WORDS = 0.05

# It follows each request. Where it is answered, the connection was kept.
_AFTER = b"GET /after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
_AFTER_ANSWER = b"GET /after?"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request as it is sent, and what it is."""

    name: str
    request: bytes


def _get(target: str = "/", *fields: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    lines = [f"{method} {target} {version}", "Host: a", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _post(body: bytes, *fields: str, target: str = "/", method: str = "POST") -> bytes:
    return _get(target, *(fields or (f"Content-Length: {len(body)}",)), method=method) + body


def _chunked(body: bytes, *fields: str, target: str = "/") -> bytes:
    return _post(body, "Transfer-Encoding: chunked", *fields, target=target)


EXCHANGES = [
    # The request line
    Exchange("GET", _get()),
    Exchange("HEAD", _get(method="HEAD")),
    Exchange("OPTIONS", _get(method="OPTIONS")),
    Exchange("`OPTIONS *`", _get("*", method="OPTIONS")),
    Exchange("a method in lower case", _get(method="get")),
    Exchange("an unknown method", _get(method="BREW")),
    Exchange("CONNECT", _get("a:80", method="CONNECT")),
    Exchange("TRACE", _get(method="TRACE")),
    Exchange("HTTP/1.0", _get(version="HTTP/1.0")),
    Exchange("HTTP/1.0 with keep-alive", _get("/", "Connection: keep-alive", version="HTTP/1.0")),
    Exchange("HTTP/1.0 without Host", b"GET / HTTP/1.0\r\n\r\n"),
    Exchange("HTTP/1.2", _get(version="HTTP/1.2")),
    Exchange("HTTP/2.0 in an HTTP/1.1 head", _get(version="HTTP/2.0")),
    Exchange("HTTP/0.9", b"GET /\r\n\r\n"),
    Exchange("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Exchange("an absolute target", _get("http://a/path")),
    Exchange("an absolute target of another host", _get("http://b/path")),
    Exchange("a target without a slash", _get("path")),
    Exchange("two slashes", _get("//path")),
    Exchange("dots", _get("/a/../b")),
    Exchange("a fragment", _get("/a#b")),
    Exchange("a space in the target", _get("/a b")),
    Exchange("bytes that are not ASCII in the target", _get("/\xe9")),
    Exchange("an invalid percent-encoding", _get("/%zz")),
    Exchange("`%00`", _get("/%00")),
    Exchange("a query of 200 fields", _get("/?" + "a=b&" * 200)),
    Exchange("a target of 10 KB", _get("/" + "a" * 10_000)),
    Exchange("a target of 100 KB", _get("/" + "a" * 100_000)),
    Exchange("an empty line before the request", b"\r\n" + _get()),
    Exchange("two empty lines before the request", b"\r\n\r\n" + _get()),
    Exchange("lines that end with LF", b"GET / HTTP/1.1\nHost: a\n\n"),
    Exchange("two spaces in the request line", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Exchange("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)),
    # Header fields
    Exchange("no Host", b"GET / HTTP/1.1\r\n\r\n"),
    Exchange("two Hosts", _get("/", "Host: b")),
    Exchange("an empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    Exchange("an invalid Host", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    Exchange("a line without a colon", _get("/", "nonsense")),
    Exchange("a space before the colon", _get("/", "X-Name : a")),
    Exchange("a folded line", _get("/", "X-Name: a", " b")),
    Exchange("a NUL in a value", _get("/", "X-Name: a\0b")),
    Exchange("a CR in a value", _get("/", "X-Name: a\rb")),
    Exchange("a tab in a value", _get("/", "X-Name: a\tb")),
    Exchange("Latin-1 in a value", _get("/", "X-Name: \xe9")),
    Exchange("an empty name", _get("/", ": a")),
    Exchange("an invalid name", _get("/", "X(Name: a")),
    Exchange("an empty value", _get("/", "X-Name:")),
    Exchange("the same field twice", _get("/", "X-Name: a", "X-Name: b")),
    Exchange("120 fields", _get("/", *[f"X-{number}: a" for number in range(120)])),
    Exchange("a value of 10 KB", _get("/", "X-Name: " + "a" * 10_000)),
    Exchange("a value of 100 KB", _get("/", "X-Name: " + "a" * 100_000)),
    # Bodies
    Exchange("a body", _post(b"text")),
    Exchange("an empty body", _post(b"")),
    Exchange("a POST without a length", _get(method="POST")),
    Exchange("a body of a GET", _post(b"text", method="GET")),
    Exchange("a body of a HEAD", _post(b"text", method="HEAD")),
    Exchange("a body of 2 MiB", _post(bytes(2 * 1024 * 1024))),
    Exchange("a body of 20 MiB", _post(bytes(20 * 1024 * 1024))),
    Exchange("`Content-Length: +4`", _post(b"text", "Content-Length: +4")),
    Exchange("`Content-Length: 4, 4`", _post(b"text", "Content-Length: 4, 4")),
    Exchange("a negative Content-Length", _post(b"text", "Content-Length: -4")),
    Exchange("Content-Length twice, the same", _post(b"text", "Content-Length: 4", "Content-Length: 4")),
    Exchange("Content-Length twice, not the same", _post(b"text", "Content-Length: 4", "Content-Length: 5")),
    Exchange("Content-Length of 30 digits", _post(b"text", "Content-Length: " + "0" * 29 + "4")),
    Exchange("Content-Length and chunked", _chunked(b"4\r\ntext\r\n0\r\n\r\n", "Content-Length: 4")),
    Exchange("a chunked body", _chunked(b"4\r\ntext\r\n0\r\n\r\n")),
    Exchange("a chunk with an extension", _chunked(b"4;a=b\r\ntext\r\n0\r\n\r\n")),
    Exchange("a chunked body with trailers", _chunked(b"4\r\ntext\r\n0\r\nX-Name: a\r\n\r\n")),
    Exchange("a chunk size that is no number", _chunked(b"four\r\ntext\r\n0\r\n\r\n")),
    Exchange("a chunk size of 17 digits", _chunked(b"00000000000000004\r\ntext\r\n0\r\n\r\n")),
    Exchange("a chunk that is too long", _chunked(b"4\r\ntext!\r\n0\r\n\r\n")),
    Exchange("chunks whose lines end with LF", _chunked(b"4\ntext\n0\n\n")),
    Exchange("`Transfer-Encoding: gzip`", _post(b"text", "Transfer-Encoding: gzip")),
    Exchange("`Transfer-Encoding: gzip, chunked`", _post(b"0\r\n\r\n", "Transfer-Encoding: gzip, chunked")),
    Exchange(
        "`Transfer-Encoding: chunked, chunked`", _post(b"0\r\n\r\n", "Transfer-Encoding: chunked, chunked")
    ),
    Exchange("`Transfer-Encoding: xchunked`", _post(b"0\r\n\r\n", "Transfer-Encoding: xchunked")),
    Exchange(
        "`Transfer-Encoding` in HTTP/1.0", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    Exchange("`Expect: 100-continue`", _post(b"text", "Content-Length: 4", "Expect: 100-continue")),
    Exchange("an unknown Expect", _post(b"text", "Content-Length: 4", "Expect: tea")),
    Exchange(
        "an Upgrade to h2c",
        _get("/", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAA"),
    ),
    Exchange(
        "an Upgrade to a WebSocket that the app does not know",
        _get(
            "/",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ),
    ),
    Exchange("`Connection: close`", _get("/", "Connection: close")),
    Exchange("an unread body of 4 bytes", _post(b"text", target="/unread")),
    Exchange("an unread body of 100 KB", _post(bytes(100_000), target="/unread")),
    Exchange("an unread chunked body", _chunked(b"4\r\ntext\r\n0\r\n\r\n", target="/unread")),
    # Responses
    Exchange("a response in parts", _get("/parts")),
    Exchange("a response in parts to HTTP/1.0", _get("/parts", version="HTTP/1.0")),
    Exchange("a response in parts to HEAD", _get("/parts", method="HEAD")),
    Exchange("204", _get("/204")),
    Exchange("304", _get("/304")),
    Exchange("a response that closes", _get("/closes")),
    Exchange("two cookies", _get("/cookies")),
    Exchange("a Date and a Server of the app's own", _get("/own-date")),
    Exchange("a body shorter than its length", _get("/short")),
    Exchange("a body longer than its length", _get("/long")),
    Exchange("an app that sets Transfer-Encoding", _get("/says-chunked")),
    Exchange("a field with a line end in its value", _get("/bad-field")),
    Exchange("an app that raises", _get("/raises")),
    Exchange("an app that raises within its response", _get("/raises-late")),
    Exchange("an app that returns without a response", _get("/returns")),
    Exchange("an app that returns within its response", _get("/incomplete")),
    Exchange("an app that sends on after the end", _get("/twice")),
]


# Why our server answers otherwise than another one.
_REASONS = {
    "`OPTIONS *`": "it asks about the server, not about the app (RFC 9110, 9.3.7)",
    "a method in lower case": "any token is a method, and its case counts (RFC 9110, 9.1)",
    "an unknown method": "any token is a method (RFC 9110, 9.1)",
    "CONNECT": "it is for proxies, which this is not",
    "TRACE": "its answer would show pages the cookies that they must not read",
    "HTTP/1.0": "hypercorn refuses `Connection: close`, with which each exchange here ends",
    "HTTP/1.0 with keep-alive": "as above",
    "HTTP/1.0 without Host": "as above",
    "HTTP/1.2": "505 is for a version that is not supported (RFC 9110, 15.6.6)",
    "HTTP/2.0 in an HTTP/1.1 head": "as above; over HTTP/1.1 it is no HTTP/2",
    "HTTP/0.9": "it is not supported, and has no header fields to check",
    "the preface of HTTP/2": "without TLS, [HTTP/2](http2.md) is an option, `http2_cleartext`, which is off",
    "an absolute target": "the app receives its path, as RFC 9112, 3.2.2 says",
    "an absolute target of another host": "if the target and Host differ, two readers see two requests",
    "a target without a slash": "no form of a target (RFC 9112, 3.2)",
    "a fragment": "clients do not send it, so it is no ordinary request",
    "an invalid percent-encoding": "readers disagree about what it stands for (RFC 3986, 2.1)",
    "`%00`": "no path has it, and programs in C end their strings there",
    "a target of 100 KB": "414 says what is too long",
    "an empty line before the request": "a server should ignore it (RFC 9112, 2.2)",
    "two empty lines before the request": "one is enough: more is a flood",
    "lines that end with LF": "a proxy that reads them otherwise takes it for another request",
    "two spaces in the request line": "as above (RFC 9112, 3)",
    "no Host": "400 is what RFC 9112, 3.2 asks for",
    "two Hosts": "as above",
    "an empty Host": "no request to a server of this kind has it",
    "an invalid Host": "400 is what RFC 9112, 3.2 asks for",
    "a folded line": "400 is what RFC 9112, 5.2 asks for",
    "a value of 100 KB": "a head has a bound: 64 KiB",
    "a body of 20 MiB": "a body has a bound, an option; the others took longer than the script waits",
    "`Content-Length: 4, 4`": "RFC 9112, 6.3 allows to refuse it, and readers disagree about it",
    "Content-Length twice, the same": "as above",
    "Content-Length of 30 digits": "readers disagree about numbers that are too long for them",
    "Content-Length and chunked": "the classic way to smuggle a request (RFC 9112, 11.2)",
    "a chunk size of 17 digits": "readers disagree about numbers that are too long for them",
    "`Transfer-Encoding: gzip`": "nobody knows where the body ends (RFC 9112, 6.3)",
    "`Transfer-Encoding: gzip, chunked`": "501 is for a coding that is not supported (RFC 9112, 6.1)",
    "`Transfer-Encoding: chunked, chunked`": "not allowed (RFC 9112, 6.1)",
    "`Transfer-Encoding: xchunked`": "nobody knows where the body ends (RFC 9112, 6.3)",
    "`Transfer-Encoding` in HTTP/1.0": "its framing is faulty there (RFC 9112, 6.1)",
    "`Expect: 100-continue`": "the body has begun to arrive, so nobody waits for 100 (RFC 9110, 10.1.1)",
    "an unknown Expect": "417 says so (RFC 9110, 10.1.1)",
    "an Upgrade to h2c": "h2c's upgrade is deprecated (RFC 9113, 3.1), so it is ignored",
    "an Upgrade to a WebSocket that the app does not know": "an app that raises is a 500",
    "`Connection: close`": "hypercorn refuses it where another request follows",
    "a response in parts to HTTP/1.0": "HTTP/1.0 has no chunks: the body ends with the connection",
    "a response in parts to HEAD": "the head is that of a GET (RFC 9110, 9.3.2)",
    "an unread body of 4 bytes": "the answer is not held up by a body that nobody reads, and says so",
    "an unread body of 100 KB": "as above",
    "an unread chunked body": "as above",
    "a response that closes": "the head says what the app asked for",
    "an app that raises": "a 500 says that the app is at fault",
    "an app that returns within its response": "it is cut, so that nobody takes it for complete",
    "a body shorter than its length": "nothing was sent yet, so it is a 500",
    "a body longer than its length": "as above",
    "an app that sets Transfer-Encoding": "the field is the server's to set (ASGI), and the length is known",
    "a field with a line end in its value": "a 500 says that the app is at fault",
    "an app that returns without a response": "as above",
    "an app that sends on after the end": "the response is complete; the error is logged",
}


async def _answer(port: int, request: bytes) -> str:
    """Return what a server answers: the status, what is peculiar, and what becomes of the connection."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        answer, end = b"", "waits"

        async def send() -> None:
            with suppress(trio.BrokenResourceError):  # it may answer and close before it has read all
                await stream.send_all(request + _AFTER)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            with trio.move_on_after(_PATIENCE):
                try:
                    while part := await stream.receive_some():
                        answer += part
                    end = "closes"
                except trio.BrokenResourceError:
                    end = "closes"
            nursery.cancel_scope.cancel()
    return _described(answer, end)


def _described(answer: bytes, end: str) -> str:
    head, _, rest = answer.partition(b"\r\n\r\n")
    is_kept = _AFTER_ANSWER in rest
    if is_kept:
        rest = rest[: rest.rindex(b"HTTP/1.")]
        end = "goes on"
    words = []
    while head.startswith(b"HTTP/1.1 100"):
        words.append("100")
        head, _, rest = rest.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1."):
        return f"no answer, {end}"
    words.append(head[9:12].decode())
    fields = head.lower()
    if b"transfer-encoding: chunked" in fields:
        words.append("chunked" if rest.endswith(b"0\r\n\r\n") else "chunked, without an end")
    elif (length := re.search(rb"content-length: (\d+)", fields)) and head[9:12] == b"200":
        sent = len(rest)
        words.append("whole" if int(length[1]) == sent else f"{sent} of {int(length[1])} bytes")
    if head[9:12] == b"200" and (told := re.search(rb"^(?:\w+\r\n)?([A-Za-z]+ \S*)\?", rest)):
        words.append(f"`{told[1].decode('latin-1')[:30]}`")
    if b"\r\nx-injected" in fields:
        words.append("injected")
    if end == "closes" and b"connection: close" not in fields:
        end = "closes without saying so"
    return f"{', '.join(words)}, {end}"


async def measure() -> dict[str, dict[str, list[str]]]:
    """Return the different answers, by exchange and server."""
    await install(PYTHON_TARGET)
    answers: dict[str, dict[str, list[str]]] = {exchange.name: {} for exchange in EXCHANGES}
    for name, command in SERVERS.items():
        left = list(EXCHANGES) * _ROUNDS
        while left:
            async with server_of(name, command)() as (_, port):
                while left:
                    exchange = left.pop(0)
                    found = answers[exchange.name].setdefault(name, [])
                    try:
                        answer = await _answer(port, exchange.request)
                        await trio.sleep(_LAST_WORDS)
                        await _answer(port, _get("/204"))  # is it still there?
                    except OSError:
                        answer = "ends the server"
                    if answer not in found:
                        found.append(answer)
                    if answer == "ends the server":
                        break
    return answers


def main(arguments: Sequence[str]) -> None:
    answers = trio.run(measure)
    equal = [found for found in answers.values() if all(each == found["uvicorn"] for each in found.values())]
    as_either = [
        found
        for found in answers.values()
        if found not in equal and set(found["trio_sse"]) & {*found["uvicorn"], *found["hypercorn"]}
    ]
    print(f"{len(answers)} exchanges: {len(equal)} equal on all, {len(as_either)} equal on ours and another")
    print("| request | trio_sse | uvicorn | hypercorn | why |\n|---|---|---|---|---|")
    for name, found in answers.items():
        if found not in equal or "--all" in arguments:
            why = "" if found in equal else _REASONS.get(name, "?")
            columns = (", or ".join(sorted(found[server])) for server in SERVERS)
            print(f"| {name} | {' | '.join(columns)} | {why} |")


if __name__ == "__main__":
    main(sys.argv[1:])
