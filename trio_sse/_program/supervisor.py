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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn, final

from .._process.garbage_collector import tune_garbage_collector
from .worker_process import WorkerProcess
from .worker_status import WorkerStatus

logger = logging.getLogger("trio_sse.program")

#: Runs a worker on its sockets to its end; gets the descriptors of its pipe to the supervisor, and of the one
#: whose end means that the supervisor is gone. Raises `SystemExit` with the reason if it can't run at all.
RunWorker = Callable[[Sequence[socket.socket], int, int], None]

_FIRST_RESTART_SECONDS = 0.5
_LONGEST_RESTART_SECONDS = 30.0
_STABLE_SECONDS = 10.0  # after which a worker that ends has not been part of a crash loop
_READY_SECONDS = 30.0  # for a new worker to listen and reach the log, before the old one is kept
_RETIRE_SECONDS = 1.0  # for one that accepts no more to answer what it has accepted
_TELL_SECONDS = 1.0
_LAST_SECONDS = 5.0  # beyond the drain time, until a worker is killed
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
_CANNOT_RUN = 78  # a worker's exit code; EX_CONFIG in sysexits.h


@final
class Supervisor:
    """Keeps one worker in each place.

    Args:
        places: the listening sockets of each.
        run_worker: is called in the forked process.
        drain_timeout: seconds that workers may take to drain, before they are killed.
        status_file: where to write the figures each second; see `WorkerStatus`.
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
        self._status = WorkerStatus(len(places), status_file)
        self._workers: dict[int, WorkerProcess] = {}  # by pid
        self._restart_at: dict[int, float] = {}  # by place
        self._crashes = [0] * len(places)  # in a row
        self._has_served = False  # some worker has
        self._to_replace: list[WorkerProcess] = []
        self._replacing: tuple[WorkerProcess, WorkerProcess, float] | None = None  # old, new, and until when
        self._retired: list[WorkerProcess] = []  # those that are to drain
        self._is_stopping = False
        self._exit_code = 0
        self._selector = selectors.DefaultSelector()
        self._life, self._life_of_workers = (-1, -1)

    def run(self) -> int:
        """Run workers until SIGTERM or SIGINT has drained them, or none can run; return the exit code."""
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
        return self._exit_code

    @contextlib.contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """Have signals written to a socket, which is given, rather than handled wherever they come."""
        reading, writing = socket.socketpair()
        for end in (reading, writing):
            end.setblocking(False)
        before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
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
        self._status.write(self._workers.values())

    def _obey(self, number: signal.Signals) -> None:
        match number:
            case signal.SIGTERM | signal.SIGINT if not self._is_stopping:
                self._stop(number.name)
            case signal.SIGINT:
                # Not a second SIGTERM: some send it to the process and to its group.
                self._kill_all("SIGINT while draining")
            case signal.SIGHUP if not self._is_stopping:
                logger.info("SIGHUP: replacing %d workers, one by one", len(self._workers))
                self._to_replace = [w for w in self._workers.values() if not w.is_replaced]
            case signal.SIGUSR1:
                logger.info("status: %s", json.dumps(self._status.of(self._workers.values())))
            case _:
                pass

    def _stop(self, why: str) -> None:
        logger.info("%s: draining %d workers", why, len(self._workers))
        self._is_stopping = True
        self._restart_at.clear()
        self._to_replace.clear()
        self._retired.clear()
        self._replacing = None
        for worker in self._workers.values():
            self._drain(worker)

    def _drain(self, worker: WorkerProcess) -> None:
        worker.is_leaving = True
        worker.kill_at = time.monotonic() + self._drain_timeout + _LAST_SECONDS
        worker.send(signal.SIGTERM)

    def _kill_all(self, why: str) -> None:
        logger.warning("%s: killing %d workers", why, len(self._workers))
        for worker in self._workers.values():
            worker.send(signal.SIGKILL)

    # Workers' beginnings and ends

    def _start(self, place: int) -> WorkerProcess | None:
        """Start a worker, now, or later if the system has no room for one."""
        try:
            reading, writing = os.pipe()
        except OSError as error:
            self._put_off(place, error)
            return None
        # Until the worker has its own handlers, a signal of its would be taken for the supervisor's.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                self._be_worker(place, writing)
        except OSError as error:
            os.close(reading)
            self._put_off(place, error)
            return None
        finally:
            os.close(writing)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.set_blocking(reading, False)
        worker = self._workers[pid] = WorkerProcess(pid, place, reading)
        self._selector.register(reading, selectors.EVENT_READ, worker)
        logger.info("worker %d started as pid %d", place, pid)
        return worker

    def _put_off(self, place: int, error: OSError) -> None:
        """Have a place wait, unless the worker that was to be replaced serves in it."""
        logger.error("can't start worker %d: %s", place, error.strerror)
        if not self._is_kept(place):
            self._restart_at[place] = time.monotonic() + _LONGEST_RESTART_SECONDS / 10

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
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
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
        except SystemExit as error:
            logger.error("worker %d can't run: %s", place, error)
            code = _CANNOT_RUN
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

    def _note_end(self, worker: WorkerProcess, status: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.pipe)
        worker.end()
        self._status.note_end(worker)
        self._has_served |= worker.is_ready
        code = os.waitstatus_to_exitcode(status)
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        if self._is_stopping or self._is_kept(worker.place):
            level = logging.INFO if code == 0 else logging.WARNING
            logger.log(level, "worker %d, pid %d, has ended: %s", worker.place, worker.pid, how)
            return
        if code == _CANNOT_RUN and not (self._has_served or any(w.is_ready for w in self._workers.values())):
            # Later, after a change of the log's password, say, the next one may be able to.
            self._exit_code = 1
            self._stop("no worker can run")
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
        self._status.restarts += 1
        self._restart_at[worker.place] = time.monotonic() + delay

    def _is_kept(self, place: int) -> bool:
        """Whether a place has a worker that goes on, or will have the next one."""
        return place in self._restart_at or any(
            worker.place == place and not worker.is_replaced for worker in self._workers.values()
        )

    def _replace_next(self) -> None:
        """Go on with replacing workers: a new one first, and when it is ready, the old one accepts no more.

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
                logger.error("the new worker %d doesn't come up: no more are replaced", new.place)
                new.send(signal.SIGKILL)
                new.is_leaving = True
                self._to_replace.clear()
            self._replacing = None
        while self._to_replace and self._replacing is None:
            old = self._to_replace.pop(0)
            if old.pid in self._workers and not old.is_replaced:
                started = self._start(old.place)
                if started is not None:
                    self._replacing = (old, started, time.monotonic() + _READY_SECONDS)
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
