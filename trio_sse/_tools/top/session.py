"""`trio-sse top` and the server: the stream of snapshots, a watched topic, and actions."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, final
from urllib.parse import parse_qs, urldefrag, urlsplit

import httpx

from ..._client.errors import StreamRefused, StreamUnavailable
from ..._client.source import EventSource
from ..._client.status import SourceStatus

_PATH = "/_sse/"


class ActionRefused(Exception):
    """The server has not done it; the text says why."""


def split_link(url: str) -> tuple[str, str | None]:
    """Return the console's URL, and the token that a link of the server has in its fragment.

    Raises:
        ValueError: it is no URL of HTTP.
    """
    plain, fragment = urldefrag(url if "://" in url else f"http://{url}")
    parts = urlsplit(plain)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("the URL must be like http://127.0.0.1:8000")
    before = parts.path.partition(_PATH.rstrip("/"))[0].rstrip("/")
    token = parse_qs(fragment).get("token", [None])[0]
    return f"{parts.scheme}://{parts.netloc}{before}{_PATH}", token


@final
class ConsoleSession:
    """A user of a server's console.

    Args:
        url: the console's, as `split_link` returns it.
        verify: verify the server's certificate.

    Attributes:
        report: is called with a line of text on each connect and disconnect.
    """

    def __init__(self, url: str, token: str, *, verify: bool) -> None:
        self._url = url
        self._fields = [("Authorization", f"Bearer {token}")]
        self._verify = verify
        self.report: Callable[[str], None] = lambda text: None

    async def snapshots(self, *, reconnect: bool = True) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """Yield what the console's stream has: the type and the data of each event.

        Raises:
            StreamRefused: the server refuses it.
            StreamUnavailable: without reconnecting, it cannot be reached.
        """
        source = EventSource(
            f"{self._url}stream",
            headers=self._fields,
            reconnect=reconnect,
            verify=self._verify,
            on_status=self._on_status,
        )
        async with source:
            async for event in source:
                yield event.event or "message", json.loads(str(event.data))

    def _on_status(self, status: SourceStatus, detail: str) -> None:
        self.report("connected" if status is SourceStatus.OPEN else detail or status.value)

    async def watch(self, topic: str) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        """Yield the events of a topic: the type and the data of each.

        Raises:
            ActionRefused: the server refuses it, or cannot be reached.
        """
        source = EventSource(
            f"{self._url}watch",
            method="POST",
            content=json.dumps({"topic": topic}),
            headers=[*self._fields, ("Content-Type", "application/json")],
            verify=self._verify,
        )
        try:
            async with source:
                async for event in source:
                    yield event.event or "message", json.loads(str(event.data))
        except (StreamRefused, StreamUnavailable) as error:
            raise ActionRefused(str(error)) from None

    async def post(self, path: str, body: Mapping[str, str | int]) -> None:
        """Have something done.

        Raises:
            ActionRefused: the server refuses it, or cannot be reached.
        """
        try:
            async with httpx.AsyncClient(timeout=10, verify=self._verify) as client:
                await _check(await client.post(self._url + path, json=body, headers=self._fields))
        except httpx.HTTPError as error:
            raise ActionRefused(f"{type(error).__name__}: {error}") from None


async def _check(response: httpx.Response) -> None:
    if response.is_success:
        return
    text = (await response.aread()).decode("utf-8", "replace").strip()
    raise ActionRefused(text or f"the server answered {response.status_code}")
