"""The console of a server: where its routes come from, and how its token reaches the operator."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import final

import trio

from .._console.console import CONSOLE_PATH, Console
from .._console.credentials import Credentials, make_token
from .._console.history import History
from .._console.peers import AllowedPeers
from .._console.requests import WorkerRequests
from .._console.source import Snapshot
from .._http.routing import Router
from .._hub.hub import Hub, engine_of
from .._pausing import Pausing, timed_in_pieces
from .._proxies.trusted_proxies import TrustedProxies
from .._request.options import ConsoleOptions
from .._request.routes import EndpointRoute, Route, StreamRoute
from .._stream.manager import StreamManager
from .console_nodes import ConsoleNodes, Summary
from .console_snapshot import SnapshotMaker
from .shared_metrics import Details, shared_metrics
from .statistics import ServerStatistics

#: How many of the latest ends are kept.
_MOST_ENDS = 50


@final
class ServerSource:
    """A server, as its console sees it; a `ConsoleSource`."""

    def __init__(
        self,
        manager: StreamManager,
        statistics: Callable[[], Pausing[ServerStatistics]],
        problems: Callable[[], Sequence[str]],
        drain: Callable[[], Awaitable[None]],
        close: Callable[..., int],
        console: ServerConsole,
        loop_seconds: Callable[[], float],
    ) -> None:
        self._manager = manager
        self._close = close
        self._snapshots = SnapshotMaker(manager, statistics, problems, loop_seconds)
        self._drain = drain
        self._console = console

    @property
    def hub(self) -> Hub:
        return self._manager.hub

    def snapshot(self) -> Pausing[Snapshot]:
        snapshot = yield from self._snapshots.make()
        nodes = self._console.nodes
        return {**snapshot, "nodes": [] if nodes is None else nodes.look()}

    def summary(self) -> Pausing[Summary]:
        return self._snapshots.summary()

    def sign(self, text: str) -> str:
        return Credentials(self._console.token).sign(f"node {text}")

    async def drain_node(self, id: str, by: str) -> bool:
        nodes = self._console.nodes
        return nodes is not None and await nodes.drain(id, by)

    def details(self) -> Pausing[Details]:  # pragma: no cover  # in a fork, too
        """Compute what other workers show of this process."""
        return self._snapshots.details()

    def end_stream(self, id: int, pid: int | None, *, reconnect: bool) -> bool:
        if pid is None or pid == os.getpid():
            return self._close(id=id, reconnect=reconnect) > 0
        if not _is_worker(pid):
            return False
        self._console.requests.add_end(pid, id, reconnect=reconnect)
        return True

    def do_requested(self) -> None:  # pragma: no cover  # in a fork
        """Do what other workers have been asked for."""
        for request in self._console.requests.take(os.getpid()):
            if request.id is None:
                self._drain_process()
            else:
                self._close(id=request.id, reconnect=request.reconnect)

    def drain(self, pid: int | None) -> bool:
        shared = shared_metrics()
        if pid is None and shared is not None:
            # Its parent cannot have ended, and its id be another's: another process would be the parent then.
            if os.getppid() == shared.supervisor:
                os.kill(shared.supervisor, signal.SIGTERM)
        elif pid is None or pid == os.getpid():
            self._drain_process()
        elif _is_worker(pid):
            self._console.requests.add_drain(pid)
        else:
            return False
        return True

    def _drain_process(self) -> None:
        # Not in a task of the connections, as the drain waits until these have ended.
        trio.lowlevel.spawn_system_task(self._drain)


def _is_worker(pid: int) -> bool:
    """Return whether a process is a worker of this server that lives."""
    shared = shared_metrics()
    return shared is not None and any(process.pid == pid for process in shared.processes())


@final
class ServerConsole:
    """The console of a server, which a change of the server's options makes anew.

    Attributes:
        token: what clients need.
        requests: what workers ask one another for.
        nodes: the nodes of the hub's log.
    """

    def __init__(self) -> None:
        self.token = ""
        self._history = History()
        self.requests = WorkerRequests(time.time)
        self.nodes: ConsoleNodes | None = None
        self._source: ServerSource | None = None
        self._console: Console | None = None
        self._made_token = ""
        self._is_shown = False

    def routes(
        self, options: ConsoleOptions, proxies: TrustedProxies, manager: StreamManager, source: ServerSource
    ) -> Router[Route]:
        """Return the console's routes. From now on, the latest ends of streams are kept."""
        if options.console_token is None and not self._made_token:
            self._made_token = make_token()
        self.token = options.console_token or self._made_token
        self._is_shown = self._is_shown or options.console_token is not None
        manager.counters.latest_ends = deque(maxlen=_MOST_ENDS)
        peers = AllowedPeers(options.console_peers, proxies)
        self._source = source
        if self.nodes is None:
            self.nodes = ConsoleNodes(engine_of(manager.hub))
        self.nodes.node = source
        self._console = console = Console(source, self.token, peers, self._history)
        router: Router[Route] = Router()
        for path, method, answer in console.endpoints():
            router.add(path, (method,), EndpointRoute(answer, is_exempt=True), answer)
        own_manager = manager.without_hooks(manager.options, host="console")
        own_manager.is_noted = False  # viewers come and go
        for path, method, handle in console.streams():
            router.add(path, (method,), StreamRoute(handle, path, own_manager), handle)
        return router

    async def report(self) -> float:  # pragma: no cover  # in a fork, too
        """Do what other workers ask for, and let them know this process's details if somebody watches.

        Return how many seconds of CPU time the details took.
        """
        shared, source, console = shared_metrics(), self._source, self._console
        if shared is None or source is None or console is None:
            return 0.0
        source.do_requested()
        if not self._history.is_watched(time.time()):
            shared.details = None
        elif not console.feed.is_fresh:  # otherwise each snapshot does it
            shared.details, seconds = await timed_in_pieces(source.details())
            return seconds
        return 0.0

    def take_token(self) -> str | None:
        """Return the token if it was made and not shown yet; the caller shows it to the operator."""
        if self._is_shown:
            return None
        self._is_shown = True
        return self.token

    def show_token(
        self, listeners: Sequence[trio.SocketListener | socket.socket], *, is_secure: bool
    ) -> None:
        """Print a token that was made, once. It is not logged: a log is kept, and read by others."""
        if (token := self.take_token()) is not None and sys.stderr is not None:
            link = console_link(_url_of(listeners, is_secure=is_secure), token)
            print(f"Console: {link}", file=sys.stderr, flush=True)


def console_link(url: str, token: str | None) -> str:
    """Return a link to the console. A fragment is not sent to the server, so it is in no log."""
    return f"{url}{CONSOLE_PATH}" + ("" if token is None else f"#token={token}")


def _url_of(listeners: Sequence[trio.SocketListener | socket.socket], *, is_secure: bool) -> str:
    """Return the URL of the first of some listening sockets that has one."""
    scheme = "https" if is_secure else "http"
    for listener in listeners:
        address = (listener.socket if isinstance(listener, trio.SocketListener) else listener).getsockname()
        if isinstance(address, tuple):
            host = "localhost" if address[0] in ("0.0.0.0", "::") else address[0]
            return f"{scheme}://[{host}]:{address[1]}" if ":" in host else f"{scheme}://{host}:{address[1]}"
    return f"{scheme}://localhost"
