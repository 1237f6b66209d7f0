"""Metrics of several processes, added up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from trio_sse import Histogram, Server, ServerStatistics, StreamKind
from trio_sse._pausing import in_one_piece
from trio_sse._server import shared_metrics
from trio_sse._server.metric_families import Value
from trio_sse._server.shared_metrics import SharedMetrics

from ..support import http
from ..support.waiting import until_blocking
from ..support.workers import pids_of, workers

WORKERS = 2

#: A worker that has sent so many events, and has so many streams open.
WORKER = """
import sys
from dataclasses import replace
from trio_sse import Server, StreamKind
from trio_sse._server.shared_metrics import SharedMetrics
descriptor, sent, opened = map(int, sys.argv[1:])
kinds = {StreamKind("/", "sse", "1.1", False): opened}
shared = SharedMetrics(2, descriptor)
shared.write(replace(Server().statistics(), events_sent=sent, streams=kinds, oldest=float(sent)))
print("written", flush=True)
sys.stdin.read()
"""


@contextmanager
def worker(shared: SharedMetrics, sent: int, opened: int) -> Iterator[None]:
    """Run a process that publishes these values, until the context is left."""
    command = [sys.executable, "-c", WORKER, *map(str, (shared.descriptor, sent, opened))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[shared.descriptor]
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        yield
        process.kill()


def value(shared: SharedMetrics, name: str, *labels: str) -> Value:
    for metric, samples in in_one_piece(shared.merged()):
        if metric.name == f"trio_sse_{name}":
            return dict(samples).get(labels)
    raise AssertionError(f"there is no metric {name}")


OPEN = ("streams", "/", "sse", "1.1", "no")


@pytest.mark.integration
def test_counters_outlive_their_process_and_gauges_do_not() -> None:
    shared = SharedMetrics(WORKERS)
    with ExitStack() as stack:
        stack.callback(shared.close)
        with worker(shared, sent=10, opened=3):
            with worker(shared, sent=5, opened=2):
                assert value(shared, "sent_events_total") == 15
                assert value(shared, *OPEN) == 5
                assert value(shared, "oldest_stream_seconds") == 10.0
            assert value(shared, "sent_events_total") == 15
            assert value(shared, *OPEN) == 3
            with worker(shared, sent=1, opened=1):  # it takes the region of the one that has ended
                assert value(shared, "sent_events_total") == 16
                assert value(shared, *OPEN) == 4
        assert value(shared, "sent_events_total") == 16
        assert value(shared, *OPEN) is None


@pytest.fixture
def shared() -> Iterator[SharedMetrics]:
    shared = SharedMetrics(WORKERS)
    yield shared
    shared.close()


def statistics(**changes: object) -> ServerStatistics:
    return replace(Server().statistics(), **changes)  # type: ignore[arg-type]


def test_what_is_written_is_read_whole_or_not_at_all(shared: SharedMetrics) -> None:
    durations = Histogram((1.0,), (2, 3), 9.0)
    shared.write(statistics(durations=durations, streams={StreamKind(None, "sse", "2", True): 1}))
    assert value(shared, "stream_duration_seconds") == durations
    assert value(shared, "streams", "unknown", "sse", "2", "yes") == 1
    os.pwrite(shared.descriptor, b"torn", 100)
    assert value(shared, "stream_duration_seconds") is None


def test_metrics_that_are_too_large_are_left_out(
    shared: SharedMetrics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shared_metrics, "_REGION_BYTES", 100)
    shared.write(statistics(events_sent=1))
    assert value(shared, "sent_events_total") is None
    assert "too large" in caplog.text


def test_a_process_without_a_region_waits_for_one(
    shared: SharedMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SharedMetrics, "_lock", lambda self, region: False)
    shared.write(statistics(events_sent=1))
    assert value(shared, "sent_events_total") is None
    monkeypatch.undo()
    shared.write(statistics(events_sent=1))
    assert value(shared, "sent_events_total") == 1


@pytest.mark.parametrize("has_memfd", [True, False])
def test_the_file_has_no_name(has_memfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_memfd:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    shared = SharedMetrics(WORKERS)
    shared.write(statistics(events_sent=4))
    assert value(shared, "sent_events_total") == 4
    shared.close()


def sent_by_all(url: str) -> dict[str, float]:
    """Return the sums that some worker answers with."""
    text = http.get(f"{url}/metrics").text
    return {one.name: one.value for family in parse(text) for one in family.samples if not one.labels}


@pytest.mark.integration
def test_any_worker_answers_for_all(tmp_path: Path) -> None:
    options = ["--metrics-path", "/metrics", "--metrics-bind", "127.0.0.1:0", "--metrics-topic", "l*"]
    with workers(tmp_path, 2, *options) as (program, url, _), ExitStack() as stack:
        pids_of(url, 2)
        for _ in range(6):
            stream = stack.enter_context(httpx.stream("GET", f"{url}/live", timeout=60))
            assert stream.status_code == 200

        def all_are_counted(wanted: Callable[[dict[str, float]], bool]) -> bool:
            return all(wanted(sent_by_all(url)) for _ in range(4))  # of whichever worker answers

        until_blocking(lambda: all_are_counted(lambda sums: sums["trio_sse_streams_opened_total"] >= 6))
        until_blocking(lambda: all_are_counted(lambda sums: sums["trio_sse_hub_subscriptions"] == 6))
        monitor = re.search(r"^Metrics and health checks on (\S+)$", program.stdout.text, re.MULTILINE)
        assert monitor is not None
        until_blocking(lambda: sent_by_all(monitor[1])["trio_sse_streams_opened_total"] >= 6)
        assert (
            'trio_sse_hub_pattern_subscriptions{pattern="l*"} 6.0' in http.get(f"{monitor[1]}/metrics").text
        )
        assert http.get(f"{monitor[1]}/readyz").json() == {"status": "ok"}
