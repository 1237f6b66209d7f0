"""`trio-sse serve --workers`: processes that share their addresses, and the supervisor that keeps them.

The supervisor binds the sockets of each worker's place, by SO_REUSEPORT, and keeps them open; a worker has
them by fork. So what waits in a place's queue when its worker dies or is replaced is accepted by the next
one: no connection is refused or lost. The app is imported before the first fork, and its memory is shared.

The supervisor runs no event loop of Trio's, as nothing of that may cross a fork. It waits for three things in
one selector: signals, what workers tell, and the time of the next restart.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, final

from ._garbage_collector import tune_garbage_collector

logger = logging.getLogger(__name__)

#: Runs a worker on its sockets to its end; gets the descriptors of its pipe to the supervisor, and of the one
#: whose end means that the supervisor is gone.
RunWorker = Callable[[Sequence[socket.socket], int, int], None]

_FIRST_RESTART_SECONDS = 0.5
_LONGEST_RESTART_SECONDS = 30.0
_STABLE_SECONDS = 10.0  # after which a worker that ends has not been part of a crash loop
_READY_SECONDS = 30.0  # for a new worker to listen, before the old one is kept
_RETIRE_SECONDS = 1.0  # for one that accepts no more to answer what it has accepted
_TELL_SECONDS = 1.0
_LAST_SECONDS = 5.0  # beyond the drain time, until a worker is killed


def bind_places(addresses: Sequence[tuple[str | None, int]], places: int) -> list[list[socket.socket]]:
    """Bind each address once for each place; where any port will do, all places have the same.

    Raises:
        OSError: an address can't be listened on.
    """
    bound: list[list[socket.socket]] = [[] for _ in range(places)]
    try:
        for host, port in addresses:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in dict.fromkeys(found):
                for place in bound:
                    listening = socket.socket(family, kind, protocol)
                    place.append(listening)
                    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    if family == socket.AF_INET6:
                        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    listening.bind(address)
                    address = listening.getsockname()  # the port, if any would do
                    listening.listen(socket.SOMAXCONN)
    except BaseException:
        for place in bound:
            for listening in place:
                listening.close()
        raise
    return bound


@final
class _Worker:
    """A running worker process."""

    def __init__(self, pid: int, place: int, pipe: int) -> None:
        self.pid = pid
        self.place = place
        self.pipe = pipe
        self.began_at = time.monotonic()
        self.is_ready = False
        self.is_leaving = False  # it was told to drain
        self.kill_at = float("inf")
        self.retired_at: float | None = None  # since when another one accepts in its place
        self.figures: Mapping[str, int] = {}
        self._unread = b""

    @property
    def is_replaced(self) -> bool:
        """Whether it takes no connections any more."""
        return self.is_leaving or self.retired_at is not None

    def read(self) -> bool:
        """Take what it tells; return whether there is more to come."""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self.pipe, 65536)
            if not data:
                return False
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                self.figures = json.loads(line)
                self.is_ready = True
        return True

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


@final
class Supervisor:
    """Keeps one worker in each place.

    Args:
        places: the listening sockets of each.
        run_worker: is called in the forked process.
        drain_timeout: seconds that workers may take to drain, before they are killed.
        status_file: where to write the figures each second; see `status`.
    """

    def __init__(
        self,
        places: Sequence[Sequence[socket.socket]],
        run_worker: RunWorker,
        *,
        drain_timeout: float,
        status_file: Path | None = None,
    ) -> None:
        self._places = places
        self._run_worker = run_worker
        self._drain_timeout = drain_timeout
        self._status_file = status_file
        self._workers: dict[int, _Worker] = {}  # by pid
        self._restart_at: dict[int, float] = {}  # by place
        self._crashes = [0] * len(places)  # in a row
        self.restarts = 0
        self._to_replace: list[_Worker] = []
        self._replacing: tuple[_Worker, _Worker, float] | None = None  # old, new, and until when
        self._retired: list[_Worker] = []  # those that are to drain
        self._is_stopping = False
        self._selector = selectors.DefaultSelector()
        self._life, self._life_of_workers = (-1, -1)

    def run(self) -> None:
        """Run workers until SIGTERM or SIGINT has drained them."""
        tune_garbage_collector()  # and what is shared stays so: a collection in a worker would write to it
        self._life_of_workers, self._life = os.pipe()
        with self._signals() as wakeups:
            self._selector.register(wakeups, selectors.EVENT_READ)
            for place in range(len(self._places)):
                self._start(place)
            while self._workers or not self._is_stopping:
                self._wait(wakeups)
        self._selector.close()
        os.close(self._life)
        for sockets in self._places:
            for listening in sockets:
                listening.close()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """Have signals written to a socket, which is given, rather than handled wherever they come."""
        reading, writing = socket.socketpair()
        for end in (reading, writing):
            end.setblocking(False)
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
        before = {number: signal.signal(number, lambda *_: None) for number in numbers}
        previous = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)
            reading.close()
            writing.close()

    def _wait(self, wakeups: socket.socket) -> None:
        """Wait for the next thing that happens, and do what is due."""
        now = time.monotonic()
        times = [*self._restart_at.values(), now + _TELL_SECONDS]
        for key, _ in self._selector.select(max(0.0, min(times) - now)):
            if key.fileobj is wakeups:
                for number in wakeups.recv(4096):
                    self._obey(signal.Signals(number))
            elif key.data.pid in self._workers and not key.data.read():
                self._selector.unregister(key.data.pipe)
        self._reap()
        self._replace_next()
        now = time.monotonic()
        for place, due in list(self._restart_at.items()):
            if due <= now:
                del self._restart_at[place]
                self._start(place)
        for worker in self._workers.values():
            if now >= worker.kill_at:
                logger.warning("worker %d, pid %d drains too long: killing it", worker.place, worker.pid)
                worker.kill_at = float("inf")
                worker.send(signal.SIGKILL)
        self._write_status()

    def _obey(self, number: signal.Signals) -> None:
        match number:
            case signal.SIGTERM | signal.SIGINT:
                if self._is_stopping:
                    self._kill_all(f"second {number.name}")
                    return
                logger.info("%s: draining %d workers", number.name, len(self._workers))
                self._is_stopping = True
                self._restart_at.clear()
                self._to_replace.clear()
                self._retired.clear()
                for worker in self._workers.values():
                    self._drain(worker)
            case signal.SIGHUP if not self._is_stopping:
                logger.info("SIGHUP: replacing %d workers, one by one", len(self._workers))
                self._to_replace = [w for w in self._workers.values() if not w.is_replaced]
            case signal.SIGUSR1:
                logger.info("status: %s", json.dumps(self.status()))
            case _:
                pass

    def _drain(self, worker: _Worker) -> None:
        worker.is_leaving = True
        worker.kill_at = time.monotonic() + self._drain_timeout + _LAST_SECONDS
        worker.send(signal.SIGTERM)

    def _kill_all(self, why: str) -> None:
        logger.warning("%s: killing %d workers", why, len(self._workers))
        for worker in self._workers.values():
            worker.send(signal.SIGKILL)

    # Workers' beginnings and ends

    def _start(self, place: int) -> _Worker:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._be_worker(place, writing)
        os.close(writing)
        os.set_blocking(reading, False)
        worker = self._workers[pid] = _Worker(pid, place, reading)
        self._selector.register(reading, selectors.EVENT_READ, worker)
        logger.info("worker %d started as pid %d", place, pid)
        return worker

    def _be_worker(self, place: int, pipe: int) -> NoReturn:  # pragma: no cover  # ends by os._exit
        """Be the worker, in the forked process, and exit."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            # Terminals send these to all; the supervisor says what is to be done.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            self._selector.close()
            os.close(self._life)
            for worker in self._workers.values():
                os.close(worker.pipe)
            for other, sockets in enumerate(self._places):
                if other != place:
                    for listening in sockets:
                        listening.close()
            self._run_worker(self._places[place], pipe, self._life_of_workers)
            code = 0
        except SystemExit as error:  # with the reason
            logger.error("worker %d can't run: %s", place, error)
        except BaseException:
            logger.exception("worker %d failed", place)
        finally:
            logging.shutdown()
            os._exit(code)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if worker := self._workers.pop(pid, None):
                self._note_end(worker, status)

    def _note_end(self, worker: _Worker, status: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.pipe)
        os.close(worker.pipe)
        code = os.waitstatus_to_exitcode(status)
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        if self._is_stopping or (worker.is_leaving and code == 0):
            logger.info("worker %d, pid %d, has ended: %s", worker.place, worker.pid, how)
            return
        if worker.is_replaced or any(
            w.place == worker.place and not w.is_replaced for w in self._workers.values()
        ):
            logger.warning("worker %d, pid %d, has ended: %s", worker.place, worker.pid, how)
            return
        lived = time.monotonic() - worker.began_at
        crashes = self._crashes[worker.place] = (
            0 if lived >= _STABLE_SECONDS else self._crashes[worker.place] + 1
        )
        delay = 0.0
        if crashes:
            backoff = _FIRST_RESTART_SECONDS * 2 ** min(crashes - 1, 10)
            delay = min(backoff, _LONGEST_RESTART_SECONDS) * random.uniform(0.5, 1)
        logger.error(
            "worker %d, pid %d, has ended after %.0f s: %s; the next one starts in %.1f s",
            worker.place,
            worker.pid,
            lived,
            how,
            delay,
        )
        self.restarts += 1
        self._restart_at[worker.place] = time.monotonic() + delay

    def _replace_next(self) -> None:
        """Go on with replacing workers: a new one first, and when it listens, the old one accepts no more.

        The old ones drain when all are replaced, one after the other. If each drained at once, its clients
        would come back to old ones, too, and the last of those would have e times as many as on average.
        """
        if self._replacing is not None:
            old, new, until = self._replacing
            if new.is_ready:
                old.retired_at = time.monotonic()
                old.send(signal.SIGHUP)
                self._retired.append(old)
            elif new.pid in self._workers and time.monotonic() < until:
                return
            else:
                logger.error("the new worker %d doesn't come up: the old one stays", new.place)
                new.send(signal.SIGKILL)
                new.is_leaving = True
                self._to_replace.clear()
            self._replacing = None
        while self._to_replace and self._replacing is None:
            old = self._to_replace.pop(0)
            if old.pid in self._workers and not old.is_replaced:
                self._replacing = (old, self._start(old.place), time.monotonic() + _READY_SECONDS)
        if self._replacing is None and not any(worker.is_leaving for worker in self._workers.values()):
            self._drain_next()

    def _drain_next(self) -> None:
        """Have the next one that was replaced drain, once what it has accepted is answered."""
        self._retired = [worker for worker in self._retired if worker.pid in self._workers]
        if self._retired:
            first = self._retired[0]
            assert first.retired_at is not None
            if time.monotonic() >= first.retired_at + _RETIRE_SECONDS:
                self._drain(self._retired.pop(0))

    # Figures

    def status(self) -> dict[str, object]:
        """Give the figures of each worker, and their sums."""
        workers = [
            {"place": w.place, "pid": w.pid, "is_leaving": w.is_leaving, **w.figures}
            for w in self._workers.values()
        ]
        names = dict.fromkeys(name for worker in self._workers.values() for name in worker.figures)
        sums = {name: sum(worker.figures.get(name, 0) for worker in self._workers.values()) for name in names}
        serving = sum(worker.is_ready and not worker.is_replaced for worker in self._workers.values())
        return {
            "sum": sums,
            "restarts": self.restarts,
            "wanted": len(self._places),
            "serving": serving,
            "workers": workers,
        }

    def _write_status(self) -> None:
        if self._status_file is None:
            return
        beside = self._status_file.with_name(f"{self._status_file.name}.new")
        try:
            beside.write_text(json.dumps(self.status()) + "\n")
            beside.replace(self._status_file)  # whole, or not at all
        except OSError as error:
            logger.warning("can't write %s: %s", self._status_file, error.strerror or error)
            self._status_file = None
