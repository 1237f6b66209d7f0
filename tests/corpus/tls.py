"""A share of the cases over TLS, in memory."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from contextlib import suppress

import trio
import trio.testing

from ..support.certificates import Contexts
from ..support.serving import running
from ..support.waiting import SECONDS
from .answers import parse
from .case import Case
from .http1 import AFTER
from .subjects import Subject, connection_number

_LAST = AFTER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


async def run(subject: Subject, host: str, cases: Sequence[Case], contexts: Contexts) -> list[str]:
    """Send each case with a last request behind it; return what has come otherwise than it must."""
    failures = []
    with trio.fail_after(SECONDS):
        async with running(subject.server.hub) as nursery:
            await nursery.start(subject.server.serve_in_memory)
            for number, case in enumerate(cases):
                ours, theirs = trio.testing.memory_stream_pair()
                connection_number.set(number)
                secured = trio.SSLStream(theirs, contexts.server, server_side=True)
                nursery.start_soon(subject.server.serve_stream, secured)
                sent = await _exchange(ours, contexts.client, case.raw + _LAST)
                answers = parse(sent, is_head=case.raw.startswith(b"HEAD "), is_ended=True)
                is_kept = answers.bodies[-1:] == [b"after"]
                statuses = answers.statuses[:-1] if is_kept else answers.statuses
                words = [",".join(statuses), "keep" if is_kept else "close", *answers.faults]
                handled = statuses.count("200")
                if " ".join(words) != case.outcome(host) or subject.entered[number] != handled:
                    failures.append(f"{case.place}: {case.text!r:.200}: {words} ({case.rule})")
    return failures


async def _exchange(stream: trio.abc.Stream, context: ssl.SSLContext, data: bytes) -> bytes:
    """Send bytes, and return what comes until the server closes."""
    received = b""
    client = trio.SSLStream(stream, context, server_hostname="localhost")
    with suppress(trio.BrokenResourceError):  # the server need not wait for the client's close_notify
        await client.send_all(data)
        while some := await client.receive_some():
            received += bytes(some)
    await trio.aclose_forcefully(client)
    return received
