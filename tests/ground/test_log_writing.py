"""How log records are written: by a thread, as JSON, and not too often."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from trio_sse._logger import get_logger
from trio_sse._logging.repeats import RepeatLimit
from trio_sse.logs import BackgroundHandler, JSONFormatter

from ..support.leaks import open_descriptors
from ..support.waiting import SECONDS

NAME = "trio_sse.tests.writing"


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger(NAME)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger
    for handler in list(logger.handlers):
        logger.removeHandler(handler)


def read_until(reading: int, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        data += os.read(reading, 1 << 20)
    return data


def test_a_pipe_that_nobody_reads_makes_nobody_wait(logger: logging.Logger) -> None:
    reading, writing = os.pipe()
    with open(writing, "w") as stream:
        handler = BackgroundHandler(stream, capacity=1000)
        logger.addHandler(handler)
        for number in range(5000):
            logger.info("%d %s", number, "x" * 100)
        assert handler.dropped >= 5000 - 1000 - (1 << 20) // 100
        assert handler.dropped > 0
        read = read_until(reading, b"could not be written\n").splitlines()
        assert read[0].startswith(b"0 x")
        assert int(read[-1].split()[0]) <= handler.dropped
        logger.info("and on")
        assert read_until(reading, b"and on\n")
        handler.close()
    os.close(reading)


def test_a_reader_that_has_left_is_no_failure(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stream:
        handler = BackgroundHandler(stream)
        logger.addHandler(handler)
        logger.info("lost")
        handler.flush()
        deadline = time.monotonic() + SECONDS
        while not handler.dropped and time.monotonic() < deadline:
            logger.info("dropped")
            threading.Event().wait(0.001)
        assert handler.dropped
        handler.close()
    assert "Error" not in capsys.readouterr().err


def test_a_reader_that_returns_is_told_what_was_lost(logger: logging.Logger, tmp_path: Path) -> None:
    path = tmp_path / "log"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(path, "w") as stream:
        logger.addHandler(handler := BackgroundHandler(stream))
        logger.info("one")
        assert os.read(reading, 100) == b"one\n"
        os.close(reading)
        logger.info("two")
        handler.flush()
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        logger.info("three")
        assert (
            os.read(reading, 100) == b"1 lines of the log were dropped, as they could not be written\nthree\n"
        )
        handler.close()
    os.close(reading)


class FullDisk(io.StringIO):
    is_full = True

    def write(self, text: str) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, "full")
        return super().write(text)


def test_a_disk_that_is_full_for_a_while_costs_only_its_lines(logger: logging.Logger) -> None:
    stream = FullDisk()
    logger.addHandler(handler := BackgroundHandler(stream))
    logger.info("lost")
    handler.flush()
    stream.is_full = False
    logger.info("on")
    handler.flush()
    assert stream.getvalue() == "on\n1 lines of the log were dropped, as they could not be written\n"
    assert handler.dropped == 1


def test_a_thread_that_cannot_start_is_started_later(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    stream = io.StringIO()
    logger.addHandler(handler := BackgroundHandler(stream))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        logger.info("one")
    logger.info("two")
    handler.flush()
    assert stream.getvalue() == "one\ntwo\n"
    assert "can't start" in capsys.readouterr().err


def test_nothing_is_written_where_its_descriptor_was(logger: logging.Logger, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with open(writing, "w") as stream:
        logger.addHandler(handler := BackgroundHandler(stream))
        before = open_descriptors()
        logger.info("one")
        handler.flush()
        own = max(map(int, open_descriptors().keys() - before), default=-1)
        if own < 0:
            pytest.skip("it has no descriptor of its own here")
        os.close(own)  # as a daemon does
        another = os.open(tmp_path / "another", os.O_RDWR | os.O_CREAT)
        if another != own:
            os.dup2(another, own)
            os.close(another)
        logger.info("two")
        handler.close()
        assert os.fstat(own).st_size == 0  # it is open, and empty
        os.close(own)
        assert read_until(reading, b"two\n") == b"one\ntwo\n"
    os.close(reading)


def test_a_stream_without_a_descriptor_is_written_to(logger: logging.Logger) -> None:
    stream = io.StringIO()
    handler = BackgroundHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.info("one")
    logger.error("two")
    handler.close()
    assert stream.getvalue() == "INFO one\nERROR two\n"


def test_what_cannot_be_formatted_is_reported_as_usual(capsys: pytest.CaptureFixture[str]) -> None:
    handler = BackgroundHandler(io.StringIO())
    handler.handle(logging.LogRecord(NAME, logging.INFO, __file__, 1, "%d", ("no number",), None))
    assert "Logging error" in capsys.readouterr().err
    handler.close()


def test_a_fork_has_a_thread_of_its_own(logger: logging.Logger) -> None:
    reading, writing = os.pipe()
    with open(writing, "w") as stream:
        handler = BackgroundHandler(stream)
        logger.addHandler(handler)
        logger.info("parent")
        handler.flush()
        child = os.fork()
        if not child:  # pragma: no cover  # in the child
            logger.info("child")
            handler.flush()
            os._exit(0)
        os.waitpid(child, 0)
        assert read_until(reading, b"child\n") == b"parent\nchild\n"
        handler.close()
    os.close(reading)


def test_records_are_json_with_their_fields(logger: logging.Logger) -> None:
    stream = io.StringIO()
    handler = BackgroundHandler(stream)
    handler.setFormatter(JSONFormatter())
    logger.addHandler(handler)
    get_logger(NAME).info("open id=%d", 7, fields={"id": 7, "level": "not this", "what": {1}})
    try:
        raise ValueError("a défaut\nof two lines")
    except ValueError as error:
        get_logger(NAME).error("it failed", exc_info=error)
    logger.info("with its stack", stack_info=True)
    handler.close()
    first, second, third = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert first.pop("time").endswith("+00:00")
    assert first == {"level": "INFO", "logger": NAME, "message": "open id=7", "id": 7, "what": "{1}"}
    assert second["exception"].endswith("ValueError: a défaut\nof two lines")
    assert "test_records_are_json_with_their_fields" in third["stack"]


def test_lines_that_repeat_are_counted() -> None:
    limit = RepeatLimit(most=2, seconds=10.0)
    assert [limit.admit("a", now) for now in (0.0, 1.0, 2.0, 3.0, 10.0, 10.5, 11.0, 30.0)] == [
        *(0, 0, None, None),
        *(2, 0, None),
        1,
    ]
    assert limit.admit("b", 3.0) == 0


def test_what_strangers_can_cause_is_logged_so_often(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = RepeatLimit(most=1, seconds=10.0)
    now = [100.0]
    monkeypatch.setattr("trio_sse._logger._repeats", limit)
    monkeypatch.setattr("trio_sse._logger.monotonic", lambda: now[0])
    stream = io.StringIO()
    handler = BackgroundHandler(stream)
    logger.addHandler(handler)
    for _ in range(3):
        get_logger(NAME).info_often("refused peer=%s", "somebody")
    now[0] += 11
    get_logger(NAME).info_often("refused peer=%s", "another")
    handler.close()
    assert stream.getvalue().splitlines() == [
        "refused peer=somebody",
        "2 lines like the next one were left out",
        "refused peer=another",
    ]


def test_the_handler_writes_to_standard_error_by_default(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    handler = BackgroundHandler()
    logger.addHandler(handler)
    logger.info("here")
    handler.close()
    assert stream.getvalue() == "here\n"
