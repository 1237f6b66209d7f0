"""The shared log that `--log` names, and which hubs need one."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection

from .._hub.engine import HubEngine
from .._hub.hub import engine_of
from .._log_backends.log_url import log_url_error
from .._server.server import Server
from .._shared_log.protocol import Log
from .errors import ProgramError

_FORMS = "it must be redis://..., rediss://..., unix:///path or sqlite:PATH"


def use_log(server: Server, url: str) -> None:
    """Make a server's hub use the shared log at a URL.

    Raises:
        ProgramError: the URL or the hub does not allow it, or an extra is missing.
    """
    try:
        engine_of(server.hub).use_log(_make_log(url))
    except (ImportError, RuntimeError, ValueError) as error:
        raise ProgramError(f"--log: {error}") from error


def _make_log(url: str) -> Log:
    if url.startswith("sqlite:"):
        from ..sqlite import SQLiteLog

        path = url.removeprefix("sqlite:").removeprefix("//")
        if "://" in path or "@" in path.partition("/")[0]:  # another log's URL; SQLite's errors quote a path
            raise log_url_error(url, _FORMS)
        return SQLiteLog(path)
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise log_url_error(url, _FORMS)
    if importlib.util.find_spec("coredis") is None:
        raise ImportError("Redis needs its extra: pip install 'trio-sse[redis]'")
    from ..redis import RedisLog

    return RedisLog(url)


def check_shareable(engines: Collection[HubEngine], workers: int) -> None:
    """Check that several workers can share the log of each hub.

    Raises:
        ProgramError: a hub keeps its log in memory, which other workers cannot read.
    """
    if not all(engine.sequencer.is_shared for engine in engines):
        raise ProgramError(
            f"{workers} workers need a shared log: an event would only reach the clients of the worker that "
            "publishes it. Use --log redis://... or --log sqlite:PATH for a Server's hub, Hub(log=...) for "
            "an app's; or --separate-hubs if nothing is published, or each worker publishes its own events"
        )
