"""Importing the server or app that the command line names."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from pathlib import Path

from .._asgi.types import ASGIApp
from .._logger import get_logger
from .._server.server import Server
from .errors import ProgramError

logger = get_logger("trio_sse.program")


def load_target(target: str, folder: Path | None = None) -> Server | ASGIApp:
    """Import the `Server` or ASGI app that `module:attribute` names, with a folder on the path.

    By default, that is the working directory.

    `module:function()` names what a factory returns.

    Raises:
        ProgramError: the import or the factory fails, or finds neither a server nor an app.
    """
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute) or module_name.startswith("."):
        raise ProgramError(f"{target!r} is not of the form MODULE:NAME, as in: trio-sse serve app:server")
    path = str((folder or Path()).absolute())
    if path not in sys.path:
        sys.path.insert(0, path)
    found = _import(module_name)
    is_factory = attribute.endswith("()")
    for name in attribute.removesuffix("()").split("."):
        found = getattr(found, name, None)
    if is_factory and found is not None:
        found = _call(target, found)
    if isinstance(found, Server) or _is_app(found):
        return found  # type: ignore[return-value]  # _is_app has checked it
    if found is None:
        raise ProgramError(f"module {module_name!r} has no attribute {attribute!r}")
    kind = type(found).__name__
    if inspect.isfunction(found) and not is_factory:
        raise ProgramError(
            f"{target!r} is neither a trio_sse.Server nor an ASGI app, but a function: if it is a factory, "
            f"write '{target}()'"
        )
    raise ProgramError(f"{target!r} is neither a trio_sse.Server nor an ASGI app: its type is {kind}")


def _call(target: str, factory: object) -> object:
    if not callable(factory):
        raise ProgramError(f"{target!r}: a factory must be callable, not a {type(factory).__name__}")
    if inspect.iscoroutinefunction(factory):
        raise ProgramError(f"{target!r}: a factory must not be async; use the app's lifespan for what waits")
    try:
        return factory()
    except Exception as error:  # the user's function may raise anything
        raise _failure(f"calling {target!r}", error) from error


def _is_app(found: object) -> bool:
    call = found if inspect.isfunction(found) else getattr(found, "__call__", None)  # noqa: B004
    return not isinstance(found, type) and inspect.iscoroutinefunction(call)


def _import(name: str) -> object:
    try:
        return importlib.import_module(name)
    except Exception as error:  # the user's module may raise anything
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise ProgramError(
                f"there is no module {name!r} in the working directory or on Python's path"
            ) from None
        raise _failure(f"importing {name!r}", error) from error


def _failure(what: str, error: Exception) -> ProgramError:
    logger.debug("%s failed", what, exc_info=error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return ProgramError(
        f"{what} failed: {type(error).__name__}: {error} "
        f"({last.filename}, line {last.lineno}; use --log-level debug for the traceback)"
    )
