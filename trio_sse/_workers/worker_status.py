"""The statistics of all workers: their sums, and the status file."""

from __future__ import annotations

import json
import stat
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import final

from .._logger import get_logger
from .._program.errors import ProgramError
from .._server.worker_counts import RestartReason, WorkerCounts
from .worker_process import WorkerProcess

logger = get_logger("trio_sse.program")

# These only grow. The sums include those of workers that have ended.
_COUNTERS = ("opened", "events_sent", "bytes_sent", "refused")
_STATISTICS = ("open_streams", *_COUNTERS, "published")


def check_status_file(file: Path) -> None:
    """Check that a status file can replace nothing but a file.

    Raises:
        ProgramError: the path names a device, a folder or the like.
    """
    try:
        mode = file.stat().st_mode  # once: a file that is removed meanwhile is none of another kind
    except (OSError, ValueError):
        return  # nothing would be replaced; writing the file raises what is wrong
    if not stat.S_ISREG(mode):
        raise ProgramError(f"--status-file: {file} is not a regular file, and would be replaced by one")


@final
class WorkerStatus:
    """Adds up what workers report.

    Args:
        slots: how many workers there should be.
        file: where to write the status, if anywhere.

    Attributes:
        restarts: how many workers ended and had to be restarted, by the reason.
    """

    def __init__(self, slots: int, file: Path | None) -> None:
        self.restarts: Counter[RestartReason] = Counter()
        self._slots = slots
        self._file = file
        self._has_failed = False  # the last write did, and that was logged
        self._ended: Counter[str] = Counter()

    def note_end(self, worker: WorkerProcess) -> None:
        """Keep the counters of a worker that has ended."""
        self._ended.update({name: worker.statistics.get(name, 0) for name in _COUNTERS})

    def of(self, workers: Collection[WorkerProcess]) -> dict[str, object]:
        """Return the statistics of each worker, and their sums."""
        sums = Counter(dict.fromkeys(_STATISTICS, 0))
        sums.update(self._ended)
        for worker in workers:
            sums.update(worker.statistics)
        counts = self.counts(workers)
        return {
            "sum": dict(sums),
            "restarts": self.restarts.total(),
            "restart_reasons": {reason.value: count for reason, count in counts.restarts.items()},
            "wanted": counts.wanted,
            "serving": counts.serving,
            "workers": [
                {
                    "slot": worker.slot,
                    "pid": worker.pid,
                    "is_draining": worker.is_draining,
                    "is_ready": worker.is_ready,
                    **worker.statistics,
                }
                for worker in workers
            ],
        }

    def counts(self, workers: Collection[WorkerProcess]) -> WorkerCounts:
        """Return what the workers export as metrics."""
        serving = sum(worker.is_serving for worker in workers)
        return WorkerCounts(wanted=self._slots, serving=serving, restarts=dict(self.restarts))

    def write(self, workers: Collection[WorkerProcess]) -> None:
        """Replace the status file in one step. Log the first failure in a row."""
        if self._file is None:
            return
        try:
            _replace(self._file, json.dumps(self.of(workers)) + "\n")
        except (OSError, ProgramError) as error:
            if not self._has_failed:
                reason = getattr(error, "strerror", None) or error
                logger.warning("cannot write %s, trying again: %s", self._file, reason)
            self._has_failed = True
        else:
            self._has_failed = False


def _replace(file: Path, text: str) -> None:
    check_status_file(file)
    target = file.resolve()  # a link stays one
    beside = target.with_name(f"{target.name}.new")
    beside.unlink(missing_ok=True)
    # Exclusively: a link or a pipe that somebody else has put there must not be written to.
    with open(beside, "x", encoding="utf-8") as writing:
        writing.write(text)
    beside.replace(target)
