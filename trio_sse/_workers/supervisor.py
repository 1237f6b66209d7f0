"""`trio-sse serve --workers`: processes that share their addresses, and the supervisor that restarts them.

The supervisor binds the sockets of each worker's slot, by SO_REUSEPORT, and those that all share, and keeps
them open. A worker inherits them by fork. When it dies or is replaced, the next one accepts the connections
that wait in the slot's queue, unless that takes longer than two seconds; see `slots`. The app is imported
before the first fork, so workers share its memory.

A worker that does not start in time, or whose event loop is blocked, is killed and restarted.

The supervisor does not run Trio, because no event loop may cross a fork. One selector waits for signals, for
reports of the workers, and for the next restart.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, final

from .._logger import get_logger
from .._process.garbage_collector import tune_garbage_collector
from .._program.certificates import Certificates
from .._program.errors import ProgramError
from .._program.listening import Listening
from .._program.service_manager import ServiceManager
from .._program.signals import signals_to_socket
from .._server.worker_counts import RestartReason, WorkerCounts
from .replacement import RollingReplacement
from .restarts import CANNOT_RUN, RestartSchedule, restart_reason
from .slots import WorkerSlots
from .worker_process import WorkerProcess, WorkerTimeouts
from .worker_status import WorkerStatus

logger = get_logger("trio_sse.program")

#: Runs a worker on its sockets until it ends. The descriptors are its pipe to the supervisor, and one that
#: becomes readable when the supervisor ends. Raises `SystemExit` with the reason if it cannot run at all, and
#: `ProgramError` if another attempt may succeed.
RunWorker = Callable[[Sequence[socket.socket], int, int], None]

_STATUS_SECONDS = 1.0
_STANDSTILL_SECONDS = 2.0  # a supervisor that wakes so much later than it wanted stood still
_KILL_SECONDS = 5.0  # after the drain timeout
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)


@final
class Supervisor:
    """Keeps a worker running in each slot.

    Args:
        listening: the sockets of each worker, and those that they share.
        run_worker: is called in the forked process.
        drain_timeout: seconds that a worker may take to drain. It is killed five seconds later.
        timeouts: how long a worker may take to start, and how long it may be silent.
        status_file: where to write the status each second; see `WorkerStatus`.
        certificates: those of the workers, which load them again when they could be loaded here.
        manager: what started the program, and wants to know how it is.
        announce: is called once, when the first worker accepts connections.
        publish: is called with what the workers export as metrics, whenever that has changed.
    """

    def __init__(
        self,
        listening: Listening,
        run_worker: RunWorker,
        *,
        drain_timeout: float,
        timeouts: WorkerTimeouts,
        status_file: Path | None = None,
        certificates: Certificates | None = None,
        manager: ServiceManager | None = None,
        announce: Callable[[], None] = lambda: None,
        publish: Callable[[WorkerCounts], None] = lambda counts: None,
    ) -> None:
        self._slots = WorkerSlots(listening)
        self._run_worker = run_worker
        self._drain_timeout = drain_timeout
        self._timeouts = timeouts
        self._status = WorkerStatus(len(self._slots), status_file)
        self._workers: dict[int, WorkerProcess] = {}  # by pid
        self._restarts = RestartSchedule(len(self._slots))
        self._replacement = RollingReplacement(self._workers, self._start, self._drain, timeouts.start)
        self._checked_at = time.monotonic()  # for workers that hang
        self._certificates = certificates
        self._manager = ServiceManager() if manager is None else manager
        self._announce: Callable[[], None] | None = announce
        self._publish = publish
        self._published: WorkerCounts | None = None
        self._alive_at = time.monotonic()  # when to tell the manager
        self._is_ready = False  # as the manager knows
        self._has_served = False  # some worker was ready
        self._is_stopping = False
        self._exit_status = 0
        self._selector = selectors.DefaultSelector()
        # A pipe whose writing end only the supervisor has: workers see its end when the supervisor ends.
        self._supervisor_alive, self._alive = (-1, -1)

    def run(self) -> int:
        """Run workers until SIGTERM or SIGINT has drained them, or none can run; return the exit status."""
        tune_garbage_collector()  # a collection in a worker would copy memory that it shares
        self._supervisor_alive, self._alive = os.pipe()
        with signals_to_socket(_SIGNALS) as signals:
            self._selector.register(signals, selectors.EVENT_READ)
            for slot in range(len(self._slots)):
                self._start(slot)
            while self._workers or not self._is_stopping:
                self._wait(signals)
                self._do_what_is_due()
        self._selector.close()
        os.close(self._alive)
        return self._exit_status

    def _wait(self, signals: socket.socket) -> None:
        """Wait for a signal, a report, a restart or the time to write the status."""
        now = time.monotonic()
        until = min(self._restarts.next_at, self._alive_at, now + _STATUS_SECONDS)
        for key, _ in self._selector.select(max(0.0, until - now)):
            if key.fileobj is signals:
                for number in signals.recv(4096):
                    self._handle_signal(signal.Signals(number))
            elif key.data.pid in self._workers and not key.data.read():
                self._selector.unregister(key.data.pipe)

    def _do_what_is_due(self) -> None:
        self._reap()
        self._replacement.step()
        for slot in self._restarts.pop_due():
            self._start(slot)
        for worker in self._workers.values():
            if time.monotonic() >= worker.kill_at:
                logger.warning(
                    "worker %d, pid %d, did not drain in time: killing it", worker.slot, worker.pid
                )
                worker.kill()
        if not self._is_stopping:
            self._kill_faulty()
            self._update_slots()
        if self._announce is not None and any(worker.is_accepting for worker in self._workers.values()):
            self._announce()
            self._announce = None
        self._report_to_manager()
        self._status.write(self._workers.values())
        if (counts := self._status.counts(self._workers.values())) != self._published:
            self._published = counts
            self._publish(counts)

    def _kill_faulty(self) -> None:
        """Kill the workers that hang. They are restarted like workers that died."""
        now = time.monotonic()
        stood_still = now >= self._checked_at + _STATUS_SECONDS + _STANDSTILL_SECONDS
        self._checked_at = now
        for worker in self._workers.values():
            if stood_still:  # perhaps with the workers, in a paused container: they will report soon
                worker.heard_at = now
            if not worker.was_killed and not worker.is_draining and (fault := worker.find_fault(now)):
                logger.error("worker %d, pid %d, %s: killing it", worker.slot, worker.pid, fault)
                worker.kill()

    def _update_slots(self) -> None:
        """Report to the slots in which a worker accepts, and in which the latest one is silent."""
        accepting = {worker.slot for worker in self._workers.values() if worker.is_accepting}
        latest = {worker.slot: worker for worker in self._workers.values()}
        self._slots.update(accepting, {slot for slot, worker in latest.items() if worker.is_silent})

    def _report_to_manager(self) -> None:
        """Report that the supervisor is alive; and when all workers accept, at first and after a reload."""
        if time.monotonic() >= self._alive_at:
            self._alive_at = time.monotonic() + self._manager.watchdog_seconds
            if self._manager.watchdog_seconds != float("inf"):
                self._manager.alive()
        if self._is_ready or self._is_stopping or self._replacement.is_active:
            return
        accepting = {worker.slot for worker in self._workers.values() if worker.is_accepting}
        if len(accepting) == len(self._slots):
            self._is_ready = True
            self._manager.ready(f"{len(accepting)} workers serve")

    def _reload(self) -> None:
        """Load the certificates again, or replace the workers if there are none."""
        if self._certificates is None:
            self._replace(signal.SIGHUP)
            return
        self._manager.reloading()
        self._is_ready = False
        if self._certificates.reload():
            for worker in self._workers.values():
                worker.send(signal.SIGHUP)

    def _replace(self, number: signal.Signals) -> None:
        logger.info("%s: replacing %d workers, one by one", number.name, len(self._workers))
        self._manager.reloading()
        self._is_ready = False
        self._replacement.begin()

    def _handle_signal(self, number: signal.Signals) -> None:
        match number:
            case signal.SIGTERM | signal.SIGINT if not self._is_stopping:
                self._stop(number.name)
            case signal.SIGINT:
                # Not on a second SIGTERM: some programs send it to the process and to its group.
                logger.warning("SIGINT while draining: killing %d workers", len(self._workers))
                for worker in self._workers.values():
                    worker.kill()
            case signal.SIGHUP if not self._is_stopping:
                self._reload()
            case signal.SIGUSR2 if not self._is_stopping:
                self._replace(number)
            case signal.SIGUSR1:
                logger.info("status: %s", json.dumps(self._status.of(self._workers.values())))
            case _:
                pass

    def _stop(self, why: str) -> None:
        logger.info("%s: draining %d workers", why, len(self._workers))
        self._is_stopping = True
        self._manager.stopping()
        self._restarts.clear()
        self._replacement.cancel()
        self._slots.end()
        for worker in self._workers.values():
            self._drain(worker)

    def _drain(self, worker: WorkerProcess) -> None:
        worker.is_draining = True
        worker.kill_at = time.monotonic() + self._drain_timeout + _KILL_SECONDS
        worker.send(signal.SIGTERM)

    # Starting workers

    def _start(self, slot: int) -> WorkerProcess | None:
        """Start a worker now, or schedule it and return `None` if the system has no room for one."""
        self._slots.bring_back(slot)
        try:
            reading, writing = os.pipe()
        except OSError as error:
            self._postpone(slot, error)
            return None
        # Until the worker has its own handlers, it would write its signals to the supervisor's socket.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                self._become_worker(slot, writing)
        except OSError as error:
            os.close(reading)
            self._postpone(slot, error)
            return None
        finally:
            os.close(writing)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.set_blocking(reading, False)
        worker = self._workers[pid] = WorkerProcess(pid, slot, reading, self._timeouts)
        self._selector.register(reading, selectors.EVENT_READ, worker)
        logger.info("worker %d started as pid %d", slot, pid)
        return worker

    def _postpone(self, slot: int, error: OSError) -> None:
        """Schedule another attempt, unless the worker that was to be replaced still serves the slot."""
        logger.error("cannot start worker %d: %s", slot, error.strerror)
        if not self._is_filled(slot):
            self._restarts.postpone(slot)

    def _become_worker(self, slot: int, pipe: int) -> NoReturn:  # pragma: no cover  # ends by os._exit
        """Run the worker in the forked process, and exit."""
        status = 1
        try:
            self._leave_supervisor(slot)
            self._run_worker(self._slots.sockets(slot), pipe, self._supervisor_alive)
            status = 0
        except SystemExit as error:
            logger.error("worker %d cannot run: %s", slot, error)
            status = CANNOT_RUN
        except ProgramError as error:
            logger.error("worker %d failed: %s", slot, error)
        except BaseException as error:
            logger.error("worker %d failed", slot, exc_info=error)
        finally:
            logging.shutdown()
            os._exit(status)

    def _leave_supervisor(self, slot: int) -> None:  # pragma: no cover  # in a fork, too
        """Reset signals, and close what belongs to the supervisor or to other slots."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        # A terminal sends these to the whole group. The supervisor decides what workers do.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        self._selector.close()
        os.close(self._alive)
        for worker in self._workers.values():
            os.close(worker.pipe)
        self._slots.leave(slot)

    # Workers that end

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if worker := self._workers.pop(pid, None):
                self._note_end(worker, os.waitstatus_to_exitcode(status))

    def _note_end(self, worker: WorkerProcess, exit_code: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.pipe)
        worker.end()
        self._status.note_end(worker)
        self._has_served |= worker.is_ready
        how = f"exit status {exit_code}" if exit_code >= 0 else signal.Signals(-exit_code).name
        if self._is_stopping or self._is_filled(worker.slot):
            level = logging.INFO if exit_code == 0 else logging.WARNING
            logger.log(level, "worker %d, pid %d, ended: %s", worker.slot, worker.pid, how)
            return
        has_served = self._has_served or any(other.is_ready for other in self._workers.values())
        if exit_code == CANNOT_RUN and not has_served:
            # Once a worker has served, the reason may be temporary, such as a change of the log's password.
            self._exit_status = 1
            self._stop("no worker can run")
            return
        lived = time.monotonic() - worker.began_at
        reason = restart_reason(worker, exit_code)
        is_drained = reason is RestartReason.DRAINED  # by the console
        seconds = self._restarts.add(worker.slot, worker.served, is_drained=is_drained)
        self._status.restarts[reason] += 1
        level = logging.WARNING if is_drained else logging.ERROR
        text = "worker %d, pid %d, ended after %.0f s: %s; restarting it in %.1f s"
        logger.log(level, text, worker.slot, worker.pid, lived, how, seconds)

    def _is_filled(self, slot: int) -> bool:
        """Return whether a worker serves a slot and keeps it, or waits for its restart."""
        return slot in self._restarts or any(
            worker.slot == slot and not worker.is_replaced for worker in self._workers.values()
        )
