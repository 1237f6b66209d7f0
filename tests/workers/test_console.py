"""The console of several workers: one token, sums, and charts that all of them show."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from trio_sse import EndReason, EventDecoder
from trio_sse._server.worker_counts import RestartReason

from ..support import http
from ..support.console import BEARER, TOKEN
from ..support.metrics import samples_in, value
from ..support.programs import RawStream
from ..support.waiting import until_blocking
from ..support.workers import status_of, workers

pytestmark = pytest.mark.integration

HEADERS = dict([BEARER.split(": ")])


def look(url: str) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """Return the points of the charts, and the first snapshot of a new viewer, of any worker."""
    decoder, events = EventDecoder(), {}
    with http.stream("GET", f"{url}/_sse/stream", headers=HEADERS) as response:
        assert response.status_code == 200, response.read()
        for piece in response.iter_bytes():
            events.update({event.event: json.loads(str(event.data)) for event in decoder.feed(piece)})
            if "snapshot" in events:
                break
    return events["history"]["samples"], events["snapshot"]


def restarts(url: str) -> dict[str, float]:
    """Return the workers' restarts by the reason, as the metrics of any worker have them."""
    samples = samples_in(http.get(f"{url}/metrics").text)
    found = {reason: value(samples, "worker_restarts_total", reason=reason.value) for reason in RestartReason}
    assert value(samples, "workers") == 2
    return {reason.value: count for reason, count in found.items() if count}


def test_every_worker_shows_all_of_them_and_drains_any_or_all(tmp_path: Path) -> None:
    options = ("--console", "--console-token", TOKEN, "--metrics-path", "/metrics")
    with ExitStack() as clients, workers(tmp_path, 2, *options) as (program, url, status):
        seen: dict[int, list[float]] = {}
        streams: dict[int, tuple[RawStream, dict[str, Any]]] = {}

        def see() -> bool:
            samples, snapshot = look(url)
            seen.setdefault(snapshot["pid"], [sample["at"] for sample in samples])
            assert sum(worker["open_streams"] for worker in snapshot["workers"]) >= 1
            # They are read one after the other, and grow meanwhile.
            assert 1 <= snapshot["totals"]["opened"] <= sum(each["opened"] for each in snapshot["workers"])
            return len(seen) == 2 and len(snapshot["workers"]) == 2

        until_blocking(see)
        (first, at_first), (second, at_second) = seen.items()
        assert at_first == []
        assert len(at_second) >= 1  # those that the other one has recorded

        def open_stream() -> bool:
            client = clients.enter_context(RawStream(f"{url}/live?x"))
            client.read_until(b"id: ")
            mine = client.port

            def find() -> bool:
                rows = [row for row in look(url)[1]["streams"] if row["peer"].endswith(f":{mine}")]
                streams.update({row["pid"]: (client, row) for row in rows})
                return bool(rows)

            until_blocking(find)  # whichever worker answers, and whichever has the stream
            return len(streams) == 2

        until_blocking(open_stream)
        assert set(streams) == {first, second}
        for pid, (client, row) in streams.items():
            # Both are ended by requests to any worker.
            body = {"id": row["id"], "pid": pid}
            assert http.post(f"{url}/_sse/end", json=body, headers=HEADERS).status_code == 204
            client.rest()
        until_blocking(
            lambda: (
                {first, second}
                == {end["pid"] for end in look(url)[1]["ends"] if end["reason"] == EndReason.REVOKED.value}
            )
        )
        assert http.post(f"{url}/_sse/end", json={"id": 1, "pid": 1}, headers=HEADERS).status_code == 404

        def drain(**what: int) -> int:
            body = {"confirm": "drain", **what}
            return http.post(f"{url}/_sse/drain", json=body, headers=HEADERS).status_code

        assert restarts(url) == {}
        assert drain(pid=1) == 404
        assert drain(pid=first) == 202  # whichever worker answers
        until_blocking(lambda: status_of(status)["restart_reasons"] == {"drained": 1})
        until_blocking(lambda: status_of(status)["serving"] == 2)
        os.kill(second, signal.SIGKILL)
        until_blocking(lambda: status_of(status)["restart_reasons"] == {"drained": 1, "killed": 1})
        until_blocking(lambda: status_of(status)["serving"] == 2)
        until_blocking(lambda: restarts(url) == {"drained": 1, "killed": 1})
        assert drain() == 202
        assert program.wait() == 0
        program.stderr.expect("SIGTERM: draining 2 workers")
