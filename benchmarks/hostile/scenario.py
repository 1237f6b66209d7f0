"""What a scenario is: an attack, what surrounds the server, and the bounds that it must keep."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Settings:
    """The sizes of all scenarios.

    Attributes:
        connections: of attackers.
        healthy: streams of healthy clients.
        seconds: how long an attack lasts.
        within: how many seconds an event, or the head of a newcomer's response, may take.
        share: how many percent of them must be in time.
    """

    connections: int = 1000
    healthy: int = 200
    seconds: float = 15.0
    within: float = 1.0
    share: float = 99.9


@dataclass(frozen=True, slots=True)
class Far:
    """Healthy clients behind a bad network: how to start their process, and the server's address for them."""

    prefix: Sequence[str]
    host: str
    within: float
    silence: float


async def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What surrounds the server.

    Attributes:
        prefix: what its command begins with.
        options: further options of it.
        disturb: what happens during the attack.
        far: clients behind a bad network.
    """

    prefix: Sequence[str] = ()
    options: Sequence[str] = ()
    disturb: Callable[[], Awaitable[None]] = field(default=_nothing)
    far: Far | None = None


Surround = Callable[[Settings], AbstractAsyncContextManager[Surroundings]]

#: Returns why a scenario cannot run here, or `None`.
Need = Callable[[], str | None]


@asynccontextmanager
async def nothing_special(settings: Settings) -> AsyncIterator[Surroundings]:
    """Surround the server with nothing."""
    yield Surroundings()


@dataclass(frozen=True, slots=True)
class Scenario:
    """An attack and its bounds.

    Attributes:
        attack: a name in `attacker.ATTACKS`, or the arguments of slowhttptest; `None` for no attack.
        share: of the attackers' connections, as a flood needs fewer.
        leaves: the attackers reset their connections when the attack is over, as the server need not close
            them. Otherwise they hold them until the server does.
        deadline: seconds after the attack until nothing of it may be left.
        memory: MiB by which the server may grow.
        tls: whether the server, and the healthy clients, use TLS.
        bulk: the bytes of large events that are published, too.
        options: further options of the server.
        within: replaces the settings' seconds, where it is not the server that is slow.
        spare: descriptors that may be left, as SQLite keeps those that it will need again.
        admits: whether newcomers must be served during the attack; otherwise only after it.
    """

    name: str
    attack: str | None = None
    share: float = 1.0
    leaves: bool = False
    deadline: float = 12.0
    memory: float = 48.0
    tls: bool = False
    bulk: int = 0
    options: Sequence[str] = ()
    within: float | None = None
    spare: int = 0
    admits: bool = True
    surround: Surround = nothing_special
    needs: Sequence[Need] = ()

    def reasons_to_skip(self) -> list[str]:
        """Return why it cannot run here."""
        return [reason for need in self.needs if (reason := need()) is not None]
