"""What an application's logging raises ends the log call only."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import pytest
import trio

from trio_sse._logger import get_logger

NAME = "trio_sse.test"


class Raising:
    """A filter, or what a handler does, that raises an exception."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def filter(self, record: logging.LogRecord) -> bool:
        raise self.error


class RaisingHandler(logging.Handler):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def emit(self, record: logging.LogRecord) -> None:
        raise self.error


@pytest.fixture
def standard() -> Iterator[logging.Logger]:
    logger = logging.getLogger(NAME)
    yield logger
    logger.filters.clear()
    logger.handlers.clear()


ERRORS = [ValueError("broken"), SystemExit(1), GeneratorExit(), RecursionError()]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("where", ["filter", "handler", "filter of a handler"])
def test_what_logging_raises_is_printed(
    standard: logging.Logger, capsys: pytest.CaptureFixture[str], error: BaseException, where: str
) -> None:
    if where == "filter":
        standard.addFilter(Raising(error))
    else:
        handler = RaisingHandler(error)
        if where != "handler":
            handler.addFilter(Raising(error))
        standard.addHandler(handler)

    get_logger(NAME).error("a message with %s", "arguments")

    printed = capsys.readouterr().err
    assert printed.startswith("--- Logging error ---\nTraceback")
    assert type(error).__name__ in printed
    assert printed.endswith("Message: 'a message with %s'\n")


def test_nothing_is_printed_where_the_standard_library_prints_nothing(
    standard: logging.Logger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    standard.addFilter(Raising(ValueError()))
    monkeypatch.setattr(logging, "raiseExceptions", False)

    get_logger(NAME).warning("message")

    assert capsys.readouterr().err == ""


def test_a_closed_stderr_is_no_error(standard: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    standard.addFilter(Raising(ValueError()))
    with open("/dev/null", "w") as closed:
        pass
    for stderr in (closed, None):
        monkeypatch.setattr(sys, "stderr", stderr)
        get_logger(NAME).warning("message")


def test_an_interrupt_passes(standard: logging.Logger) -> None:
    standard.addFilter(Raising(KeyboardInterrupt()))

    with pytest.raises(KeyboardInterrupt):
        get_logger(NAME).error("message")


async def test_trio_s_cancellation_passes(standard: logging.Logger) -> None:
    class Cancelling(Raising):
        def filter(self, record: logging.LogRecord) -> bool:
            trio.from_thread.check_cancelled()
            return True

    standard.addFilter(Cancelling(ValueError()))
    with trio.CancelScope() as scope:
        scope.cancel()
        await trio.to_thread.run_sync(get_logger(NAME).error, "message")

    assert scope.cancelled_caught


def test_records_name_the_code_that_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger=NAME)
    logger = get_logger(NAME)
    for log in (logger.debug, logger.info, logger.warning, logger.error):
        log("message")

    assert {record.funcName for record in caplog.records} == {"test_records_name_the_code_that_logs"}
    assert [record.levelname for record in caplog.records] == ["DEBUG", "INFO", "WARNING", "ERROR"]


class Empty(ValueError):
    """An exception that is false, as one with a length."""

    def __len__(self) -> int:
        return 0


class Undecided(ValueError):
    def __bool__(self) -> bool:
        raise RuntimeError("it is both")


@pytest.mark.parametrize("error", [Empty(), Undecided()], ids=repr)
def test_every_exception_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    get_logger(NAME).error("it failed", exc_info=error)

    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error
