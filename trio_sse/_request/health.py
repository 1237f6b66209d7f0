"""The health checks: whether the event loop turns, and whether clients should be sent here.

Orchestrators ask for them by address, so they are exempt from `allowed_hosts`. They say why, in words for
programs: see `docs/health.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

from .._http.response import Response, json_response


@final
class HealthChecks:
    """Answers the paths of the health checks.

    Args:
        health_path: `None` for none, as the others. It answers 503 only until the log has been loaded.
        liveness_path: it answers 200 as long as the event loop turns.
        readiness_path: it answers 503 as long as there is a problem.
        problems: returns why the server is not ready; nothing if it is.
        warnings: returns what is wrong all the same.
    """

    def __init__(
        self,
        health_path: str | None,
        liveness_path: str | None,
        readiness_path: str | None,
        problems: Callable[[], Sequence[str]],
        warnings: Callable[[], Sequence[str]],
    ) -> None:
        self._problems = problems
        self._warnings = warnings
        answers = {
            readiness_path: self._readiness,
            liveness_path: self._liveness,
            health_path: self._health,
        }
        self._answers = {path: answer for path, answer in answers.items() if path is not None}

    def __contains__(self, path: str) -> bool:
        """Return whether a path is that of a health check."""
        return path in self._answers

    def answer(self, path: str) -> Response:
        """Return the response to a request for one of the paths."""
        return self._answers[path]()

    def _liveness(self) -> Response:
        return json_response({"status": "ok"})

    def _readiness(self) -> Response:
        problems = list(self._problems())
        if problems:
            return json_response({"status": "unavailable", "reasons": problems}, status=503)
        warnings = list(self._warnings())
        return json_response({"status": "ok", "warnings": warnings} if warnings else {"status": "ok"})

    def _health(self) -> Response:
        if "log_not_loaded" not in self._problems():
            return json_response({"status": "ok"})
        return json_response({"status": "unavailable", "reason": "log_not_loaded"}, status=503)
