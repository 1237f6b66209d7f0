"""Metrics of several processes, added up: any worker answers for all of them.

The supervisor makes a file in memory before it forks, with a region for each worker. A worker locks its
region, which the kernel undoes when it ends, and writes its metrics there once a second. Who answers a
scrape adds up the regions. Of a worker that has ended, what only grows still counts; the next worker that
takes its region carries it on. The last region has what the supervisor counts. The file ends with the last
process, so nothing is ever stale.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, final

from .._histogram import Histogram
from .._logger import get_logger
from .._pausing import Pausing
from .._stream.statistics import StreamStatistics
from .metric_families import METRICS, WORKER_METRICS, Metric, MetricType, Sample, Value, samples_of
from .statistics import ServerStatistics
from .worker_counts import RestartReason, WorkerCounts

logger = get_logger("trio_sse.program")

_REGION_BYTES = 1024 * 1024  # what is not written takes no memory
_HEAD = struct.Struct("<II")  # the length of what follows, and its CRC
_ATTEMPTS = 5  # to read what is being written

_BY_NAME = {metric.name: metric for metric in METRICS}

#: Values by the name of their metric, and then by their labels.
Values = dict[str, dict[tuple[str, ...], Value]]


#: What only this process knows of its streams and topics, as JSON values: the rows of the console's tables.
Details = dict[str, list[dict[str, Any]]]


class ProcessMetrics(NamedTuple):
    """What a process has written last.

    Attributes:
        pid: the process.
        at: when, in seconds since 1970.
        values: its metrics, and what those who had its region before have counted.
        details: what the console shows of it, while somebody watches.
    """

    pid: int
    at: float
    values: Values
    details: Details | None


@final
class SharedMetrics:
    """The file. Make it before the first fork; in each process, it is another worker's.

    Args:
        workers: how many there are; some more may run for a moment while they are replaced.
        descriptor: of a file that was made by another process.

    Attributes:
        details: what the next `write` publishes for the console.
        supervisor: the process that has made the file.
    """

    def __init__(self, workers: int, descriptor: int | None = None) -> None:
        self.supervisor = os.getpid()
        self.descriptor = _make_file() if descriptor is None else descriptor
        self._regions = 2 * workers + 8
        self._own: int | None = None
        self.details: Details | None = None
        self._former: Values = {}  # what those who had our region before counted

    def close(self) -> None:
        """Close the file in this process."""
        os.close(self.descriptor)

    def write(self, statistics: ServerStatistics) -> None:
        """Publish the metrics of this process."""
        if self._own is None and not self._claim():
            return
        self._put(_added([self._former, _values_of(samples_of(statistics))]))

    def merged(self) -> Pausing[list[tuple[Metric, Iterable[Sample]]]]:
        """Compute the sums over all processes."""
        total = _added([])
        for region in range(self._regions):
            if (written := self._get(region)) is not None:
                _add(total, written.values if self._is_alive(region) else _counters(written.values))
                yield
        if (counts := self.worker_counts()) is not None:
            for metric in WORKER_METRICS:
                total[metric.name] = {tuple(labels): value for labels, value in metric.samples(counts)}
        return [(_BY_NAME[name], list(of_name.items())) for name, of_name in total.items()]

    def write_worker_counts(self, counts: WorkerCounts) -> None:
        """Publish what the supervisor counts. Only the supervisor calls this."""
        restarts = {reason.value: count for reason, count in counts.restarts.items()}
        payload = json.dumps([counts.wanted, counts.serving, restarts]).encode()
        self._put_payload(self._regions, payload)

    def worker_counts(self) -> WorkerCounts | None:
        """Return what the supervisor has published."""
        if (payload := self._get_payload(self._regions)) is None:
            return None
        wanted, serving, restarts = json.loads(payload)
        by_reason = {RestartReason(name): count for name, count in restarts.items()}
        return WorkerCounts(wanted=wanted, serving=serving, restarts=by_reason)

    def processes(self) -> list[ProcessMetrics]:
        """Return what each process that lives has written last."""
        written = [self._get(region) for region in range(self._regions) if self._is_alive(region)]
        return [each for each in written if each is not None]

    def _claim(self) -> bool:
        """Take a region that no living process has."""
        for region in range(self._regions):
            if self._lock(region):
                self._own = region
                former = self._get(region)
                self._former = {} if former is None else _counters(former.values)
                self._put(self._former)
                return True
        return False

    def _is_alive(self, region: int) -> bool:
        if region == self._own:
            return True
        if not self._lock(region):
            return True
        fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, region)
        return False

    def _lock(self, region: int) -> bool:
        try:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, region)
        except OSError:
            return False
        return True

    def _put(self, values: Values) -> None:
        assert self._own is not None
        rows = {
            name: [[labels, _plain(value)] for labels, value in of_name.items()]
            for name, of_name in values.items()
        }
        payload = json.dumps([os.getpid(), time.time(), rows, self.details]).encode()
        if len(payload) + _HEAD.size > _REGION_BYTES:
            logger.error("the metrics of this worker are too large to be added up: %d bytes", len(payload))
            return
        self._put_payload(self._own, payload)

    def _put_payload(self, region: int, payload: bytes) -> None:
        data = _HEAD.pack(len(payload), zlib.crc32(payload)) + payload
        os.pwrite(self.descriptor, data, region * _REGION_BYTES)

    def _get(self, region: int) -> ProcessMetrics | None:
        if (payload := self._get_payload(region)) is None:
            return None
        pid, at, rows, details = json.loads(payload)
        values = {
            name: {tuple(labels): _value(value) for labels, value in of_name}
            for name, of_name in rows.items()
        }
        return ProcessMetrics(pid, at, values, details)

    def _get_payload(self, region: int) -> bytes | None:
        start = region * _REGION_BYTES
        for _ in range(_ATTEMPTS):
            head = os.pread(self.descriptor, _HEAD.size, start)
            if len(head) < _HEAD.size:
                break
            size, crc = _HEAD.unpack(head)
            payload = os.pread(self.descriptor, size, start + _HEAD.size)
            if size and zlib.crc32(payload) == crc:
                return payload
        return None


def _make_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("trio_sse metrics")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _values_of(samples: Iterable[tuple[Metric, Iterable[Sample]]]) -> Values:
    return {
        metric.name: {tuple(labels): value for labels, value in of_metric} for metric, of_metric in samples
    }


def _counters(values: Values) -> Values:
    """Return the values that only grow."""
    return {name: of_name for name, of_name in values.items() if _BY_NAME[name].type is not MetricType.GAUGE}


def _added(all_values: Iterable[Values]) -> Values:
    total: Values = {metric.name: {} for metric in METRICS}
    for values in all_values:
        _add(total, values)
    return total


def _add(total: Values, values: Values) -> None:
    for name, of_name in values.items():
        into = total[name]
        for labels, value in of_name.items():
            into[labels] = _merge(_BY_NAME[name], into.get(labels), value)


def _merge(metric: Metric, one: Value, other: Value) -> Value:
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, Histogram) and isinstance(other, Histogram):
        return one + other
    assert not isinstance(one, Histogram)
    assert not isinstance(other, Histogram)
    return metric.merge(one, other)


def _plain(value: Value) -> object:
    return [value.bounds, value.counts, value.sum] if isinstance(value, Histogram) else value


def _value(plain: object) -> Value:
    if isinstance(plain, list):
        bounds, counts, total = plain
        return Histogram(tuple(bounds), tuple(counts), total)
    assert plain is None or isinstance(plain, int | float)
    return plain


_current: SharedMetrics | None = None


def shared_metrics() -> SharedMetrics | None:
    """Return what this process shares with other workers, if it is one."""
    return _current


@contextmanager
def sharing_metrics(workers: int) -> Iterator[None]:
    """Share metrics with the processes that are forked meanwhile."""
    global _current
    _current = SharedMetrics(workers)
    try:
        yield
    finally:
        _current.close()
        _current = None


def current_samples(
    statistics: ServerStatistics | StreamStatistics,
) -> Pausing[list[tuple[Metric, Iterable[Sample]]]]:
    """Compute the metrics of this process; in a worker, those of all workers."""
    if _current is None or not isinstance(statistics, ServerStatistics):
        return list(samples_of(statistics))
    _current.write(statistics)
    return (yield from _current.merged())
