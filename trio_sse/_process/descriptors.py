"""File descriptors: as many as the system lets this process have."""

from __future__ import annotations

import logging

logger = logging.getLogger("trio_sse.process")


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard one, and say so; each connection takes one."""
    try:
        import resource  # not on every platform
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        logger.info("file descriptors: the limit is %s", _describe(soft))
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:  # macOS refuses "unlimited"
        logger.warning("file descriptors: the limit stays at %s: %s", _describe(soft), error)
    else:
        logger.info("file descriptors: soft limit raised from %s to %s", _describe(soft), _describe(hard))


def descriptor_limit() -> int | None:
    """Give the soft limit of open files; `None` where there is none, or it can't be told."""
    try:
        import resource
    except ImportError:
        return None
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def raised_descriptor_limit() -> int | None:
    """Raise the limit as far as it goes, and give it as `descriptor_limit` does."""
    raise_descriptor_limit()
    return descriptor_limit()


def _describe(limit: int) -> str:
    return "unlimited" if limit == -1 else str(limit)
