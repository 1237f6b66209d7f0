"""`trio-sse serve --workers`: real processes that are killed, replaced and drained."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import sqlite3
import threading
from pathlib import Path

import httpx
import pytest

from trio_sse._workers.worker_process import WorkerProcess, WorkerTimeouts
from trio_sse._workers.worker_status import WorkerStatus

from ..support import http
from ..support.programs import RawStream, serving, trio_sse
from ..support.waiting import until_blocking
from ..support.workers import APP, is_alive, pid_of, pids_of, status_of, workers

pytestmark = pytest.mark.integration


def test_all_workers_get_connections_and_every_event(tmp_path: Path) -> None:
    with workers(tmp_path) as (program, url, status):
        assert program.process.pid not in pids_of(url, 2)
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(RawStream(f"{url}/live")) for _ in range(12)]
            for stream in streams:
                stream.read_until(b"\r\n\r\n")
            until_blocking(lambda: status_of(status)["sum"]["open_streams"] == 12)
            assert all(worker["open_streams"] for worker in status_of(status)["workers"])
            assert status_of(status)["serving"] == status_of(status)["wanted"] == 2
            http.post(f"{url}/live", content=b"to all").raise_for_status()
            for stream in streams:
                stream.read_until(b"data: to all\n\n")
        program.send(signal.SIGUSR1)
        program.stderr.expect(r"status: .*\"open_streams\"")
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        assert "Traceback" not in program.stderr.rest()


def test_every_published_event_is_stored_while_workers_die_and_are_replaced(tmp_path: Path) -> None:
    published: list[str] = []

    def publish(count: int) -> None:
        for _ in range(count):  # each on its own connection, so that all workers get some
            published.append(f"m{len(published)}")
            http.post(f"{url}/live", content=published[-1].encode()).raise_for_status()

    with workers(tmp_path) as (program, url, status):
        first = pids_of(url, 2)
        publish(20)
        with contextlib.suppress(httpx.HTTPError):
            http.post(f"{url}/die")
        until_blocking(lambda: len(pids_of(url, 2) - first) == 1)
        publish(20)
        second = pids_of(url, 2)
        program.send(signal.SIGHUP)
        until_blocking(lambda: not second & {worker["pid"] for worker in status_of(status)["workers"]})
        publish(20)
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as log:
        stored = [json.loads(record)[1] for (record,) in log.execute("select record from log_entries")]
    assert stored == published


def test_a_worker_that_dies_is_restarted_and_others_continue(tmp_path: Path) -> None:
    with workers(tmp_path) as (program, url, status):
        pids = pids_of(url, 2)
        with RawStream(f"{url}/live") as stream:
            stream.read_until(b"\r\n\r\n")
            until_blocking(lambda: status_of(status)["sum"]["open_streams"] == 1)
            serving_pid = next(w["pid"] for w in status_of(status)["workers"] if w["open_streams"])
            (victim,) = pids - {serving_pid}
            os.kill(victim, signal.SIGKILL)
            program.stderr.expect(rf"pid {victim}, ended after \d+ s: SIGKILL; restarting it in [\d.]+ s")
            assert pids_of(url, 2) >= {serving_pid}
            http.post(f"{url}/live", content=b"still there").raise_for_status()
            stream.read_until(b"data: still there\n\n")
        assert status_of(status)["restarts"] == 1


def test_draining_sends_retry_and_exits_with_0(tmp_path: Path) -> None:
    with workers(tmp_path) as (program, url, _), RawStream(f"{url}/live") as stream:
        stream.read_until(b"\r\n\r\n")
        pids = pids_of(url, 2)
        program.send(signal.SIGTERM)
        assert re.search(rb"retry: \d+\n", stream.rest())
        assert program.wait() == 0
        assert not any(map(is_alive, pids))


def test_replacing_workers_refuses_no_connection(tmp_path: Path) -> None:
    with workers(tmp_path) as (program, url, _):
        stop = threading.Event()
        answered: list[int] = []
        refused: list[Exception] = []

        def ask() -> None:
            address = ("127.0.0.1", int(url.rpartition(":")[2]))
            while not stop.is_set():
                try:
                    with socket.create_connection(address, 10) as connection:
                        connection.sendall(b"GET /pid HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                        answered.append(int(connection.makefile("rb").read().rpartition(b"\n")[2]))
                except (OSError, ValueError) as error:
                    refused.append(error)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            before = pids_of(url, 2)
            program.send(signal.SIGHUP)
            until_blocking(lambda before=before: not any(map(is_alive, before)))  # type: ignore[misc]
        stop.set()
        for thread in threads:
            thread.join()
        assert refused == []
        assert len(set(answered)) >= 4
        assert len(answered) > 100


def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    with workers(tmp_path) as (program, url, _):
        pids = pids_of(url, 2)
        program.send(signal.SIGKILL)
        until_blocking(lambda: not any(map(is_alive, pids)))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_that_hang_at_their_start_end_with_their_supervisor(
    tmp_path: Path, number: signal.Signals
) -> None:
    arguments = ("serve", "tests.support.apps.hanging_app:server", "--workers", "2", "--separate-hubs")
    with trio_sse(*arguments, "--bind", "127.0.0.1:0", env={"HANG": str(tmp_path)}) as program:
        pids = [int(program.stderr.expect(r"worker \d started as pid (\d+)")[1]) for _ in range(2)]
        program.send(number)
        assert program.wait() == (0 if number == signal.SIGTERM else -signal.SIGKILL)
        until_blocking(lambda: not any(map(is_alive, pids)))


def test_workers_that_die_at_their_start_are_restarted_with_backoff() -> None:
    arguments = (
        "serve",
        "tests.support.apps.dying_app:server",
        "--workers",
        "2",
        "--separate-hubs",
        "--bind",
        "127.0.0.1:0",
    )
    with trio_sse(*arguments) as program:
        ended = r"ended after \d+ s: exit status 3; restarting it in ([\d.]+) s"
        delays = [float(program.stderr.expect(ended)[1]) for _ in range(4)]
        assert delays[-1] >= 0.5
        program.send(signal.SIGINT)
        assert program.wait() == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "3 workers need a shared log: an event would only reach the clients of the worker"),
        (["--host", "hypercorn"], "--host hypercorn cannot be combined with --workers"),
        (["--bind", "256.1.1.1:1", "--separate-hubs"], "cannot listen on 256.1.1.1:1"),
        (["--status-file", "", "--separate-hubs"], "--status-file must name a file"),
        (["--bind", "a..b:80", "--separate-hubs"], "cannot listen on a..b:80"),
    ],
)
def test_what_cannot_be_done_is_reported_in_a_line(options: list[str], text: str) -> None:
    with trio_sse("serve", APP, "--workers", "3", *options) as program:
        assert program.wait() == 1
        assert text in program.stderr.rest()


def test_a_quart_app_with_a_hub_in_memory_is_refused() -> None:
    with trio_sse("serve", "tests.support.apps.members:app", "--workers", "2") as program:
        assert program.wait() == 1
        assert "--separate-hubs" in program.stderr.rest()


def test_an_asgi_app_with_a_hub_in_memory_is_refused(tmp_path: Path) -> None:
    log = f"sqlite:{tmp_path / 'log.db'}"
    for arguments in (["asgi_app:app"], ["asgi_app:server", "--log", log]):
        target, *options = arguments
        with trio_sse("serve", f"tests.support.apps.{target}", "--workers", "2", *options) as program:
            assert program.wait() == 1
            assert "--separate-hubs" in program.stderr.rest()


def test_a_signal_right_after_the_fork_is_neither_lost_nor_taken_for_another() -> None:
    for _ in range(6):
        with trio_sse("serve", APP, "--workers", "3", "--separate-hubs", "--bind", "127.0.0.1:0") as program:
            program.stderr.expect("worker 2 started")
            program.send(signal.SIGTERM)
            assert program.wait() == 0
            assert "killing" not in program.stderr.rest()


def test_a_second_interrupt_kills_and_a_second_sigterm_does_not(tmp_path: Path) -> None:
    with workers(tmp_path) as (program, url, _), RawStream(f"{url}/stubborn") as stream:
        stubborn = int(stream.read_until(b"\n\n").rpartition(b"data: ")[2])
        program.send(signal.SIGTERM)
        program.stderr.expect("SIGTERM: draining")
        program.send(signal.SIGTERM)
        program.send(signal.SIGUSR1)
        program.stderr.expect("status: ")
        assert is_alive(stubborn)
        program.send(signal.SIGINT)
        program.stderr.expect("SIGINT while draining: killing")
        assert program.wait() == 0


def test_a_signal_to_replace_them_during_the_import_does_not_end_them(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    arguments = ("serve", "tests.support.apps.slow_import:server", "--workers", "2", "--separate-hubs")
    with trio_sse(*arguments, "--bind", "127.0.0.1:0", env={"FIFO": str(fifo)}) as program:
        with fifo.open("w"):  # waits until it is imported
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
                program.send(number)
        program.stderr.expect("worker 1 started")
        program.send(signal.SIGTERM)
        assert program.wait() == 0


def test_a_second_program_on_the_same_port_is_refused(tmp_path: Path) -> None:
    with workers(tmp_path) as (_, url, _):
        options = ("--separate-hubs", "--bind", url.removeprefix("http://"))
        with trio_sse("serve", APP, "--workers", "2", *options) as second:
            assert second.wait() == 1
            assert "Address already in use" in second.stderr.rest()


def test_workers_are_not_replaced_while_the_new_ones_have_no_log(tmp_path: Path) -> None:
    with workers(tmp_path) as (program, url, status):
        first = pids_of(url, 2)
        with contextlib.closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as other:
            other.execute("begin exclusive")
            program.send(signal.SIGHUP)
            program.stderr.expect("replacing 2 workers")
            program.stderr.expect("the shared log is not available yet")
            until_blocking(lambda: [w["is_ready"] for w in status_of(status)["workers"]].count(False) == 1)
            assert status_of(status)["serving"] == 2
            other.execute("rollback")
        until_blocking(lambda: not first & {worker["pid"] for worker in status_of(status)["workers"]})


def test_a_worker_that_reports_nothing_is_not_counted() -> None:
    timeouts = WorkerTimeouts(silence=10.0)
    reading, writing = os.pipe()
    worker = WorkerProcess(os.getpid(), 0, reading, timeouts)
    status = WorkerStatus(1, None)
    assert status.of([worker])["serving"] == 0
    assert status.of([])["sum"] == dict.fromkeys(
        ("open_streams", "opened", "events_sent", "bytes_sent", "refused", "published"), 0
    )
    os.write(writing, b'{"is_ready": true, "opened": 3}\n')
    worker.read()
    assert status.of([worker])["serving"] == 1
    worker.heard_at -= 5.0
    assert status.of([worker])["serving"] == 0
    os.close(writing)
    worker.end()


def test_a_fork_that_fails_is_tried_again_and_others_continue(tmp_path: Path) -> None:
    with workers(tmp_path) as (program, url, _):
        first = pids_of(url, 2)
        pid = program.process.pid
        open_files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_files - 1, before[1]))
        os.kill(min(first), signal.SIGKILL)
        program.stderr.expect(r"cannot start worker \d: Too many open files")
        assert is_alive(max(first))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        until_blocking(lambda: len(pids_of(url, 2) - first) == 1)


def test_separate_hubs_have_logs_of_their_own() -> None:
    with serving(APP, "--workers", "2", "--separate-hubs") as (_, url):
        pids_of(url, 2)
        epochs: set[bytes] = set()

        def note_epoch() -> bool:
            with RawStream(f"{url}/live") as stream:
                stream.read_until(b"\r\n\r\n")
                for _ in range(
                    64
                ):  # the kernel chooses a worker for each; all but surely one is the stream's
                    http.post(f"{url}/live", content=b"x")
                stream.read_until(b"data: x\n\n")
                epochs.add(re.findall(rb"id: ([0-9a-f]+)\.", stream.received)[0])
            return len(epochs) == 2

        until_blocking(note_epoch)


def test_a_log_that_refuses_ends_the_program(tmp_path: Path) -> None:
    log = f"sqlite:{tmp_path / 'nowhere' / 'log.db'}"
    with trio_sse("serve", APP, "--bind", "127.0.0.1:0", "--workers", "2", "--log", log) as program:
        assert program.wait() == 1
        told = program.stderr.rest()
        assert re.search(
            r"worker \d cannot run: the shared log refused: SQLite, .*nowhere/log.db: unable", told
        )
        assert "no worker can run" in told
        assert "Traceback" not in told


def test_a_log_that_refuses_later_is_tried_again(tmp_path: Path) -> None:
    with workers(tmp_path) as (program, url, _):
        first = pids_of(url, 2)
        aside = (tmp_path / "log.db").rename(tmp_path / "aside.db")
        (tmp_path / "log.db").mkdir()
        os.kill(min(first), signal.SIGKILL)
        program.stderr.expect(r"worker \d cannot run: the shared log refused")
        (tmp_path / "log.db").rmdir()
        aside.rename(tmp_path / "log.db")
        until_blocking(lambda: len(pids_of(url, 2) - first) == 1)


def test_a_slot_is_served_again_if_its_new_worker_hangs_while_the_old_one_dies(tmp_path: Path) -> None:
    hang = tmp_path / "hang"
    options = ("--workers", "2", "--separate-hubs", "--start-timeout", "1.5")
    with serving("tests.support.apps.hanging_app:server", *options, env={"HANG": str(hang)}) as (
        program,
        url,
    ):
        pids = [int(program.stderr.expect(rf"worker {slot} started as pid (\d+)")[1]) for slot in range(2)]
        first = pids_of(url, 2)
        hang.touch()
        program.send(signal.SIGHUP)
        program.stderr.expect("replacing 2 workers")
        slot, hanging = program.stderr.expect(r"worker (\d) started as pid (\d+)").groups()
        os.kill(pids[int(slot)], signal.SIGKILL)
        program.stderr.expect(f"the new worker {slot} did not become ready")
        hang.unlink()
        program.stderr.expect(f"worker {slot}, pid {hanging}, ended .* restarting it")
        assert len(pids_of(url, 2) & first) == 1


def test_the_sums_include_workers_that_have_ended(tmp_path: Path) -> None:
    with workers(tmp_path) as (program, url, status):
        for number in range(6):
            with RawStream(f"{url}/live") as stream:
                stream.read_until(b"\r\n\r\n")
                http.post(f"{url}/live", content=b"%d" % number).raise_for_status()
                stream.read_until(b"data: %d\n\n" % number)
        first = pids_of(url, 2)
        program.send(signal.SIGHUP)
        until_blocking(lambda: not any(map(is_alive, first)))
        until_blocking(lambda: not first & {worker["pid"] for worker in status_of(status)["workers"]})
        until_blocking(lambda: status_of(status)["sum"]["opened"] == 6)
        assert status_of(status)["sum"]["events_sent"] >= 6
        assert status_of(status)["sum"]["open_streams"] == 0


def test_the_status_file_is_written_again_when_it_can_be(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with serving(APP, "--status-file", folder / "status.json") as (program, url):  # one is supervised, too
        until_blocking(lambda: (folder / "status.json").exists())
        assert status_of(folder / "status.json")["wanted"] == 1
        folder.rename(tmp_path / "aside")
        program.stderr.expect(r"cannot write .*status\.json, trying again: No such file")
        folder.mkdir()
        until_blocking(lambda: (folder / "status.json").exists())
        assert pid_of(url) != program.process.pid
