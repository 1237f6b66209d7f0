"""The hosts of the scenarios: routes and apps, over each kind of connection."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

KINDS = ("native", "quart", "starlette", "fastapi", "litestar")


@dataclass(frozen=True)
class Host:
    """A kind of host, and how its clients connect.

    Attributes:
        kind: what has the handlers.
        transport: memory, sockets, tls; or hypercorn, on sockets.
    """

    kind: str
    transport: str
    is_http2: bool = False

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.transport}" + ("-http2" if self.is_http2 else "")

    @property
    def is_in_memory(self) -> bool:
        return self.transport == "memory"

    @property
    def has_tls(self) -> bool:
        return self.transport == "tls" or (self.transport == "hypercorn" and self.is_http2)


def _all_hosts() -> Iterable[Host]:
    for kind in KINDS:
        yield Host(kind, "memory")
        yield Host(kind, "memory", is_http2=True)
    for kind in ("native", "quart", "starlette"):
        yield Host(kind, "sockets")
        yield Host(kind, "tls")
        yield Host(kind, "tls", is_http2=True)
    yield Host("fastapi", "sockets", is_http2=True)
    for kind in ("quart", "starlette"):
        yield Host(kind, "hypercorn")
        yield Host(kind, "hypercorn", is_http2=True)


HOSTS = {host.name: host for host in _all_hosts()}
