"""The limit of open file descriptors. Each connection takes one.

The processes that an app starts inherit the limit. Some go through all descriptors that they might have, or
use `select`, which knows 1,024. So a server raises it only when it is half used up.
"""

from __future__ import annotations

import sys
from types import ModuleType

from .._logger import get_logger

#: How many descriptors are kept for the program itself: an eighth of the limit if that is fewer.
RESERVED = 32

# macOS says "unlimited", refuses that, and takes no more than its OPEN_MAX (getrlimit(2) there).
_OPEN_MAX = 10_240

logger = get_logger("trio_sse.process")


def raise_descriptor_limit() -> int | None:
    """Raise the soft limit of open files to the hard one, log it, and return it.

    Return `None` if there is no limit, or if the platform does not report one.
    """
    try:
        import resource  # not on every platform
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        logger.info("the file descriptor limit is %s", _describe(soft))
    else:
        soft = _raise(resource, soft, hard)
    return None if soft == resource.RLIM_INFINITY else soft


def _raise(resource: ModuleType, soft: int, hard: int) -> int:
    """Raise the soft limit as far as the system allows, and return it."""
    refusal: Exception | None = None
    for limit in [hard] if hard != resource.RLIM_INFINITY else [hard, max(soft, _OPEN_MAX)]:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        except (ValueError, OSError) as error:
            refusal = error
        else:
            logger.info("raised the file descriptor limit from %s to %s", _describe(soft), _describe(limit))
            return limit
    logger.warning("the file descriptor limit stays at %s: %s", _describe(soft), refusal)
    return soft


def log_descriptor_limit() -> None:
    """Log the limit, and how far it can be raised."""
    try:
        import resource  # not on every platform
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        logger.info("the file descriptor limit is %s", _describe(soft))
    else:
        text = "the file descriptor limit is %s, and is raised to %s when half of it is used"
        logger.info(text, _describe(soft), _describe(hard))


def first_to_raise_for(*, for_operators: bool = False) -> int:
    """Return the number of the descriptor for which the limit is to be raised, if it can be."""
    try:
        import resource  # not on every platform
    except ImportError:
        return sys.maxsize
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return first_reserved(for_operators=for_operators) if soft == hard else soft // 2


def first_reserved(*, for_operators: bool = False) -> int:
    """Return the number from which on descriptors are kept for the program itself, not for clients.

    A new descriptor has the lowest number that is free, so its number says how many are left. The log's
    connections, an app's and files need some while clients take all that they can get. Those who look why
    nobody gets through, by metrics and health checks on an address of their own, may have half of them.
    """
    try:
        import resource  # not on every platform
    except ImportError:
        return sys.maxsize
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return sys.maxsize
    kept = min(RESERVED, soft // 8)
    return soft - (kept // 2 if for_operators else kept)


def _describe(limit: int) -> str:
    return "unlimited" if limit == -1 else str(limit)
