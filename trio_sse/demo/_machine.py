"""What the machine is doing, read through psutil, with no event loop in sight.

`Machine.sample` blocks for some milliseconds, so call it in a thread. Rates and percentages are differences
between two samples: they are kept here and not in psutil, whose own `cpu_percent` remembers per thread and
would start anew whenever a worker thread changes.
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
# Already counted in `user` and `nice` (proc_stat(5)): adding them would count that time twice.
_COUNTED_TWICE = frozenset({"guest", "guest_nice"})
# `iowait` is idle time too: the core had nothing else to run.
_IDLE = frozenset({"idle", "iowait"})

# What the machine says to itself would count twice, and a dashboard looked at from here would show itself.
_LOOPBACK = frozenset({"lo", "lo0"})


@final
class Machine:
    """The machine this program runs on. Not to be sampled by two threads at once."""

    __slots__ = ("_cores", "_network", "_network_at")

    def __init__(self) -> None:
        self._cores = _core_times()
        self._network = _network_bytes()
        self._network_at = time.monotonic()

    def sample(self) -> dict[str, dict[str, object]]:
        """Read the machine once, as JSON-able data by topic: `cpu`, `memory`, `network`, `processes`.

        `at` is the wall clock in unix seconds, the same in all topics of one sample. Sizes are bytes, rates
        bytes per second, shares percent. What is a rate is 0 if asked for with no time gone by since the
        last sample; what the system does not let us read is left out or 0, never an error.
        """
        processes = self._processes()
        topics = {
            "cpu": self._cpu(),
            "memory": self._memory(),
            "network": self._network_rates(),
            "processes": processes,
        }
        at = round(time.time(), 3)
        return {topic: {"at": at, **figures} for topic, figures in topics.items()}

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
        for process in psutil.process_iter():  # psutil keeps the objects, and with them the times before
            try:
                with process.oneshot():
                    readings.append((process.cpu_percent(), process.memory_info().rss, process))
            except psutil.Error:  # it ended meanwhile, or is none of our business
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
    # The kernel's counters may step back a little, so the ends are clamped.
    return round(min(100.0, max(0.0, 100 * part / whole)), 1) if whole > 0 else 0.0


def _rate(amount: int, seconds: float) -> float:
    return round(max(0, amount) / seconds, 1) if seconds > 0 else 0.0
