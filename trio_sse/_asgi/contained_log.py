"""A foreign server's logger whose failures end the log call only.

The filters and handlers of a log are the application's, and may fail; see `_logger.py`. In the server's task
that would end all its connections.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from .._groups import split_failure
from .._logger import report

# The methods of hypercorn's loggers.
_METHODS = ("access", "critical", "debug", "error", "exception", "info", "log", "warning")

Method = Callable[..., Awaitable[None]]
OnAccess = Callable[[object], None]


def contained_log(logger_class: type[Any], on_access: OnAccess) -> type[Any]:
    """Return a subclass of a logger's class that raises only what must pass.

    Args:
        on_access: is called with the scope of each line of the access log.
    """
    methods = {name: getattr(logger_class, name, None) for name in _METHODS}
    contained = {name: _contained(method) for name, method in methods.items() if method is not None}
    if (log_access := contained.get("access")) is not None:

        @functools.wraps(log_access)
        async def access(log: object, scope: object, *arguments: object, **options: object) -> None:
            on_access(scope)
            await log_access(log, scope, *arguments, **options)

        contained["access"] = access
    return type(logger_class.__name__, (logger_class,), contained)


def _contained(method: Method) -> Method:
    @functools.wraps(method)
    async def call(*arguments: object, **options: object) -> None:
        try:
            await method(*arguments, **options)
        except BaseException as failure:
            passing, contained = split_failure(failure)
            if contained is not None:
                report(contained, f"{method.__name__} of a server's log")
            if passing is not None:
                raise passing from None

    return call
