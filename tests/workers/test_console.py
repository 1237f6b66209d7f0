"""The console of several workers: one token, sums, and charts that all of them show."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from trio_sse import EventDecoder

from ..support import http
from ..support.console import BEARER, TOKEN
from ..support.waiting import until_blocking
from ..support.workers import workers

pytestmark = pytest.mark.integration

HEADERS = dict([BEARER.split(": ")])


def look(url: str) -> tuple[list[dict[str, float]], dict]:  # type: ignore[type-arg]
    """Return the points of the charts, and the first snapshot of a new viewer, of any worker."""
    decoder, events = EventDecoder(), {}
    with httpx.stream("GET", f"{url}/_sse/stream", headers=HEADERS, timeout=60) as response:
        assert response.status_code == 200, response.read()
        for piece in response.iter_bytes():
            events.update({event.event: json.loads(str(event.data)) for event in decoder.feed(piece)})
            if "snapshot" in events:
                break
    return events["history"]["samples"], events["snapshot"]


def test_every_worker_shows_all_of_them(tmp_path: Path) -> None:
    with workers(tmp_path, 2, "--console", "--console-token", TOKEN) as (_, url, _):
        seen: dict[int, list[float]] = {}

        def see() -> bool:
            samples, snapshot = look(url)
            seen.setdefault(snapshot["pid"], [sample["at"] for sample in samples])
            assert sum(worker["open_streams"] for worker in snapshot["workers"]) >= 1
            assert snapshot["totals"]["opened"] == sum(worker["opened"] for worker in snapshot["workers"])
            return len(seen) == 2 and len(snapshot["workers"]) == 2

        until_blocking(see)
        (first, at_first), (second, at_second) = seen.items()
        assert at_first == []
        assert len(at_second) >= 1  # those that the other one has recorded
        pids = {worker["pid"] for worker in look(url)[1]["workers"]}
        assert pids == {first, second}
        body = {"topic": "a", "data": "b"}
        for _ in range(4):
            assert http.post(f"{url}/_sse/publish", json=body, headers=HEADERS).status_code == 204
