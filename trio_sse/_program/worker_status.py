"""The figures of all workers: their sums, and the file that they are written to."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import final

from .worker_process import WorkerProcess

logger = logging.getLogger("trio_sse.program")

# Those that only grow. The sums keep them when a worker has ended.
_COUNTERS = ("opened", "events_sent", "bytes_sent", "refused")
_FIGURES = ("open_streams", *_COUNTERS, "published")


@final
class WorkerStatus:
    """Sums up what the workers of some places tell.

    Args:
        file: where to write it.
    """

    def __init__(self, places: int, file: Path | None) -> None:
        self.restarts = 0
        self._places = places
        self._file = file
        self._is_file_missed = False  # which was told
        self._ended: Counter[str] = Counter()

    def note_end(self, worker: WorkerProcess) -> None:
        """Keep the counters of a worker that has ended."""
        self._ended.update({name: worker.figures.get(name, 0) for name in _COUNTERS})

    def of(self, workers: Collection[WorkerProcess]) -> dict[str, object]:
        """Give the figures of each worker, and their sums."""
        sums = Counter(dict.fromkeys(_FIGURES, 0))
        sums.update(self._ended)
        for worker in workers:
            sums.update(worker.figures)
        return {
            "sum": dict(sums),
            "restarts": self.restarts,
            "wanted": self._places,
            "serving": sum(worker.is_serving for worker in workers),
            "workers": [
                {
                    "place": w.place,
                    "pid": w.pid,
                    "is_leaving": w.is_leaving,
                    "is_ready": w.is_ready,
                    **w.figures,
                }
                for w in workers
            ],
        }

    def write(self, workers: Collection[WorkerProcess]) -> None:
        """Write the file, whole or not at all; what hinders it is told once, until it goes again."""
        if self._file is None:
            return
        beside = self._file.with_name(f"{self._file.name}.new")
        try:
            beside.write_text(json.dumps(self.of(workers)) + "\n")
            beside.replace(self._file)
        except OSError as error:
            if not self._is_file_missed:
                logger.warning("can't write %s, trying again: %s", self._file, error.strerror or error)
            self._is_file_missed = True
        else:
            self._is_file_missed = False
