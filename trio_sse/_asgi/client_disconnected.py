"""What our own `send` callables raise to report a disconnect, and telling it from an app's own errors.

ASGI's is any `OSError`. But middleware may raise one for its own reasons, such as a full disk, and that is
an error to be logged.
"""

from __future__ import annotations

from .._groups import leaf_exceptions

# How far to look for the reason of an exception: a chain may be a circle.
_MOST_CAUSES = 20


# What Starlette and FastAPI raise where an app reads the body of a client that disconnects, and what Quart
# raises, from 0.23 on, where it has a response for one.
_OF_FRAMEWORKS = frozenset({"ClientDisconnect", "ClientDisconnectedError"})


class ClientDisconnected(OSError):
    """The client has disconnected, so nothing can be sent."""


def is_of_disconnect(failure: BaseException) -> bool:
    """Whether an exception from the app is ours about a disconnect, or was raised because of it."""
    if isinstance(failure, BaseExceptionGroup):
        return all(is_of_disconnect(error) for error in leaf_exceptions(failure))
    cause: BaseException | None = failure
    for _ in range(_MOST_CAUSES):
        if cause is None:
            return False
        if isinstance(cause, ClientDisconnected) or type(cause).__name__ in _OF_FRAMEWORKS:
            return True
        cause = cause.__cause__ or cause.__context__
    return False
