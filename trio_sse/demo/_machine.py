"""Reading what the machine is doing, with psutil and without an event loop.

`Machine.sample` blocks for some milliseconds, so call it in a thread. Rates and percentages are differences
between two samples. They are computed here, because psutil's `cpu_percent` keeps its state per thread, and
starts again whenever the worker thread changes.
"""

import heapq
import time
from typing import final

try:
    import psutil
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "the demo needs its extra: pip install 'trio-sse[cli]'", name="psutil"
    ) from None

_BUSIEST = 8
# `user` and `nice` include these times (proc_stat(5)).
_COUNTED_TWICE = frozenset({"guest", "guest_nice"})
# `iowait` is idle time too: the core had nothing else to run.
_IDLE = frozenset({"idle", "iowait"})

# Loopback traffic would count twice, and a dashboard that is viewed on this machine would show its own.
_LOOPBACK = frozenset({"lo", "lo0"})


@final
class Machine:
    """The machine that this program runs on. Only one thread may sample it at a time."""

    __slots__ = ("_cores", "_network", "_network_at")

    def __init__(self) -> None:
        self._cores = _core_times()
        self._network = _network_bytes()
        self._network_at = time.monotonic()

    def sample(self) -> dict[str, dict[str, object]]:
        """Return one sample: JSON-able data for the topics `cpu`, `memory`, `network` and `processes`.

        `at` is the wall clock in unix seconds, the same in all topics of one sample. Sizes are in bytes,
        rates in bytes per second, shares in percent. A rate is 0 if no time has passed since the last sample.
        What the system does not let us read is left out or 0, and never an error.
        """
        processes = self._processes()
        topics = {
            "cpu": self._cpu(),
            "memory": self._memory(),
            "network": self._network_rates(),
            "processes": processes,
        }
        at = round(time.time(), 3)
        return {topic: {"at": at, **data} for topic, data in topics.items()}

    def _cpu(self) -> dict[str, object]:
        before, self._cores = self._cores, _core_times()
        if len(before) != len(self._cores):  # a core was switched on or off
            before = self._cores
        per_core = [
            _share(busy - busy_before, total - total_before)
            for (busy, total), (busy_before, total_before) in zip(self._cores, before, strict=True)
        ]
        return {
            "percent": round(sum(per_core) / max(1, len(per_core)), 1),
            "per_core": per_core,
            "load": [round(load, 2) for load in psutil.getloadavg()],
            "cores": len(per_core),
        }

    def _memory(self) -> dict[str, object]:
        memory = psutil.virtual_memory()
        return {
            "percent": memory.percent,
            "used": memory.total - memory.available,
            "total": memory.total,
            "swap_percent": psutil.swap_memory().percent,
        }

    def _network_rates(self) -> dict[str, object]:
        (sent_before, received_before), self._network = self._network, _network_bytes()
        before, self._network_at = self._network_at, time.monotonic()
        sent, received = self._network
        seconds = self._network_at - before
        return {
            "sent_per_second": _rate(sent - sent_before, seconds),
            "received_per_second": _rate(received - received_before, seconds),
        }

    def _processes(self) -> dict[str, object]:
        readings: list[tuple[float, int, psutil.Process]] = []
        for process in psutil.process_iter():  # psutil keeps the objects, with their previous times
            try:
                with process.oneshot():
                    readings.append((process.cpu_percent(), process.memory_info().rss, process))
            except psutil.Error:  # it has ended, or we may not read it
                continue
        busiest = heapq.nlargest(_BUSIEST, readings, key=lambda reading: reading[:2])
        return {
            "top": [
                {"pid": process.pid, "name": _name(process), "cpu": cpu, "memory": memory}
                for cpu, memory, process in busiest
            ]
        }


def _core_times() -> list[tuple[float, float]]:
    """Return the busy and the total seconds of each core since boot."""
    cores = []
    for times in psutil.cpu_times(percpu=True):
        seconds = {name: value for name, value in times._asdict().items() if name not in _COUNTED_TWICE}
        total = sum(seconds.values())
        cores.append((total - sum(seconds.get(name, 0.0) for name in _IDLE), total))
    return cores


def _network_bytes() -> tuple[int, int]:
    """Return the bytes sent and received since boot, of all interfaces but the loopback."""
    interfaces = [
        counters
        for name, counters in psutil.net_io_counters(pernic=True).items()
        if name not in _LOOPBACK and not name.startswith("Loopback ")  # as Windows calls it
    ]
    return sum(each.bytes_sent for each in interfaces), sum(each.bytes_recv for each in interfaces)


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return "?"


def _share(part: float, whole: float) -> float:
    # The kernel's counters may go back a little, so the result is clamped.
    return round(min(100.0, max(0.0, 100 * part / whole)), 1) if whole > 0 else 0.0


def _rate(amount: int, seconds: float) -> float:
    return round(max(0, amount) / seconds, 1) if seconds > 0 else 0.0
