"""Signals to a worker, or to its supervisor, at each moment of a worker's life."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from trio_sse._workers.worker_process import WorkerProcess, WorkerTimeouts

from ..support.programs import Program, RawStream, serving
from ..support.waiting import until_blocking
from ..support.workers import is_alive, pids_of

pytestmark = pytest.mark.integration

APP = "tests.support.apps.moments:server"
STARTED = r"worker \d started as pid (\d+)"
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL]
ENDS_A_WORKER = {signal.SIGTERM, signal.SIGKILL}  # the others are the supervisor's business


def children_of(pid: int) -> list[int]:
    """Return a process's children, zombies included."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _has(pid: int, variable: str) -> bool:
    """Whether a process has a variable with this value in its environment."""
    with suppress(OSError):  # it has ended, or is another user's
        return variable.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


@contextmanager
def at(moment: str, tmp_path: Path, *, is_stubborn: bool) -> Iterator[tuple[Program, str, int]]:
    """Run two workers; yield one of them in that moment of its life. Nothing is left afterwards.

    Args:
        is_stubborn: have one run a handler that ignores its cancellation, in any case
    """
    hang = tmp_path / "hang"
    with serving(APP, "--workers", "2", "--separate-hubs", env={"HANG": str(hang)}) as (program, url):
        seen = {int(program.stderr.expect(STARTED)[1]) for _ in range(2)}
        first = pids_of(url, 2)
        assert first == seen, program.stderr.text  # no worker has been replaced
        with ExitStack() as stack:
            worker = min(first)
            if is_stubborn or moment in ("draining", "replaced"):  # these must last until the signal
                stream = stack.enter_context(RawStream(f"{url}/stubborn"))
                worker = int(stream.read_until(b"\n\n").rpartition(b"data: ")[2].split()[0])
            match moment:
                case "start":
                    hang.touch()
                    os.kill(min(first - {worker}), signal.SIGKILL)
                    worker = int(program.stderr.expect(STARTED)[1])
                    assert worker not in first | seen, program.stderr.text
                    until_blocking(lambda: "hanging" in program.stderr.text)  # perhaps before that line
                    hang.unlink()
                case "draining":
                    os.kill(worker, signal.SIGTERM)
                    program.stderr.expect("begins to drain")
                case "replaced":
                    program.send(signal.SIGHUP)
                    until_blocking(lambda: not first & pids_of(url, 2))
        seen |= {worker, *children_of(program.process.pid)}
        yield program, url, worker
        if program.process.poll() is None:
            seen |= set(children_of(program.process.pid))
            program.send(signal.SIGTERM)
            program.wait()
    until_blocking(lambda: not any(map(is_alive, seen)))
    # Nobody listens any more; but another test may have the port by now.
    assert [
        pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _has(pid, f"HANG={hang}")
    ] == []
    assert "Traceback" not in program.stderr.text


@pytest.mark.parametrize("moment", ["start", "ready", "draining", "replaced"])
@pytest.mark.parametrize("number", SIGNALS)
def test_after_a_signal_to_a_worker_two_workers_serve(
    tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    with at(moment, tmp_path, is_stubborn=number == signal.SIGTERM) as (program, url, worker):
        os.kill(worker, number)
        stays = number not in ENDS_A_WORKER and moment in ("start", "ready")
        if not stays:
            until_blocking(lambda: not is_alive(worker))
        until_blocking(lambda: sorted(pids_of(url, 2)) == sorted(children_of(program.process.pid)))
        assert is_alive(worker) == stays


@pytest.mark.parametrize("moment", ["start", "ready", "draining", "replaced"])
@pytest.mark.parametrize("number", SIGNALS)
def test_after_a_signal_to_the_supervisor_nothing_is_left(
    tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    with at(moment, tmp_path, is_stubborn=number == signal.SIGTERM) as (program, _, _):
        program.send(number)
        if number == signal.SIGHUP:
            program.stderr.expect("SIGHUP: replacing")
        else:
            assert program.wait() == (-number if number == signal.SIGKILL else 0)


def test_a_worker_that_somebody_else_drains_does_not_count_as_accepting() -> None:
    reading, writing = os.pipe()
    worker = WorkerProcess(os.getpid(), 0, reading, WorkerTimeouts())
    for is_draining in (False, True):
        os.write(writing, b'{"is_ready": true, "is_draining": %s}\n' % str(is_draining).lower().encode())
        worker.read()
        assert worker.is_accepting != is_draining
    os.close(writing)
    worker.end()
