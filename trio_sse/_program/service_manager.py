"""Messages to the service manager that has started the program: sd_notify(3) of systemd.

Without one, nothing is sent. The variables that say where to send are removed from the environment, so that a
program that the app starts does not speak for this one.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import final

import trio

from .._logger import get_logger

logger = get_logger("trio_sse.program")

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


@final
class ServiceManager:
    """Who wants to know when the program is ready, stops, and that it is alive.

    Attributes:
        watchdog_seconds: how often to say that the program is alive; `math.inf` if nobody waits for it.
    """

    def __init__(self, environment: MutableMapping[str, str] | None = None) -> None:
        found = {} if environment is None else {name: environment.pop(name, "") for name in _VARIABLES}
        address = found.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        if address and address[0] not in "/@":  # such as a virtual machine's vsock:
            logger.warning("NOTIFY_SOCKET is neither a path nor an abstract socket: %s", address)
            self._address = ""
        self.watchdog_seconds = float("inf")
        if self._address and found["WATCHDOG_PID"] in ("", str(os.getpid())):
            microseconds = found["WATCHDOG_USEC"]
            if microseconds.isascii() and microseconds.isdigit() and int(microseconds):
                self.watchdog_seconds = int(microseconds) / 2e6  # twice as often as it has to be

    def ready(self, status: str) -> None:
        """Say that the program has started, or has been reloaded."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Say that the program reloads; `ready` follows."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Say that the program shuts down."""
        self._send("STOPPING=1", "STATUS=Draining")

    def alive(self) -> None:
        """Say that the program is alive."""
        self._send("WATCHDOG=1")

    async def say_alive(self) -> None:
        """Say it as often as it has to be, as long as the event loop runs."""
        while self.watchdog_seconds != float("inf"):
            self.alive()
            await trio.sleep(self.watchdog_seconds)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.setblocking(False)
                sending.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            logger.warning("cannot notify the service manager of %s: %s", lines[0], error.strerror or error)
