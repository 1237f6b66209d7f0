"""The systems on which the package runs: it is imported first, and says so on any other."""

from __future__ import annotations

try:
    import fcntl  # noqa: F401
    import termios  # noqa: F401
except ImportError as error:
    raise ImportError(
        "trio_sse needs a POSIX system, such as Linux or macOS. Windows is not supported; its WSL is a Linux"
    ) from error
