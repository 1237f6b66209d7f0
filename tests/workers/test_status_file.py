"""The status file replaces nothing but files, and nothing else is written to."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path, PosixPath

import pytest

from trio_sse._program.errors import ProgramError
from trio_sse._workers.restarts import restart_reason
from trio_sse._workers.worker_process import WorkerProcess, WorkerTimeouts
from trio_sse._workers.worker_status import WorkerStatus, check_status_file

from ..support.cases import each_case
from ..support.programs import trio_sse


class RemovedWhenSeen(PosixPath):
    """A file that another program removes as soon as somebody has looked at it."""

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        found = super().stat(follow_symlinks=follow_symlinks)
        self.unlink()
        return found


def test_a_device_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to("/dev/null")
    for path in (Path("/dev/null"), tmp_path, pipe, link):
        with pytest.raises(ProgramError, match=r"is not a regular file"):
            check_status_file(path)
    (tmp_path / "removed").touch()
    for path in (tmp_path / "new", tmp_path / "no folder yet" / "new", RemovedWhenSeen(tmp_path / "removed")):
        check_status_file(path)
    assert not (tmp_path / "removed").exists()


@pytest.mark.integration
def test_the_program_refuses_a_status_file_that_is_a_device(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    arguments = ("serve", "tests.support.apps.streams:server", "--bind", "127.0.0.1:0")
    with trio_sse(*arguments, "--status-file", pipe) as program:
        assert program.wait() == 1
        assert program.stderr.rest() == (
            f"Error: --status-file: {pipe} is not a regular file, and would be replaced by one\n"
        )
    assert pipe.is_fifo()


def test_a_pipe_that_takes_the_place_of_the_file_later_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "status.json"
    status = WorkerStatus(1, file)
    status.write([])
    file.unlink()
    os.mkfifo(file)
    status.write([])
    assert file.is_fifo()
    assert "is not a regular file" in caplog.text


@each_case(
    ("exit_code", "was_killed", "has_started", "reason"),
    [
        (0, False, True, "drained"),
        (1, False, True, "failed"),
        (78, False, False, "cannot_run"),
        (-signal.SIGSEGV, False, True, "crashed"),
        (-signal.SIGKILL, False, True, "killed"),
        (-signal.SIGKILL, True, True, "hung"),
        (-signal.SIGKILL, True, False, "not_started"),
    ],
)
def test_it_is_known_why_a_worker_is_restarted(
    exit_code: int, was_killed: bool, has_started: bool, reason: str
) -> None:
    worker = WorkerProcess(1, 0, -1, WorkerTimeouts())
    worker.was_killed, worker.has_started = was_killed, has_started
    assert restart_reason(worker, exit_code).value == reason


def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(file)
    WorkerStatus(3, link).write([])
    assert link.is_symlink()
    assert json.loads(file.read_text())["wanted"] == 3


def test_nothing_is_written_through_a_link_or_pipe_beside_the_file(tmp_path: Path) -> None:
    file, other = tmp_path / "status.json", tmp_path / "other"
    beside = tmp_path / "status.json.new"
    other.write_text("theirs")
    beside.symlink_to(other)
    WorkerStatus(1, file).write([])
    assert other.read_text() == "theirs"
    os.mkfifo(beside)
    WorkerStatus(2, file).write([])  # it would wait for a reader
    assert json.loads(file.read_text())["wanted"] == 2
