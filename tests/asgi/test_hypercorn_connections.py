"""What plain responses of an app, logs and Unix sockets may not do to `trio_sse.hypercorn`."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import h2.errors
import h2.events
import h2.settings
import hypercorn.logging
import pytest
import trio
from hypercorn.config import Config

import trio_sse.hypercorn

from ..support.http2_client import RawHttp2
from ..support.hypercorn_config import make_config
from ..support.waiting import SECONDS, until

LONG = 1000.0  # longer than a test may take


class App:
    """An app that answers with a small body, or waits until its client leaves."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError(scope["type"])
        self.begun += 1
        try:
            if scope["path"] == "/waits":
                while (await receive())["type"] != "http.disconnect":
                    pass
            elif scope["path"] == "/switches":
                await send({"type": "http.response.start", "status": 101, "headers": []})
            elif scope["path"] == "/is-short":
                fields = [(b"content-length", b"10")]
                await send({"type": "http.response.start", "status": 200, "headers": fields})
                await send({"type": "http.response.body", "body": b"short"})
            elif scope["path"] == "/fails":
                raise ValueError("an error for the log")
            else:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"answer"})
        finally:
            self.ended += 1


@asynccontextmanager
async def serving(app: App, *, bind: str = "127.0.0.1:0", **options: Any) -> AsyncIterator[tuple[int, Any]]:
    """Serve an app; give the port, and a function that shuts down and returns when that has happened."""
    logs = {name: options.pop(name, None) for name in ("errorlog", "accesslog")}
    config = make_config(bind=[bind], **logs)
    shutdown, ended = trio.Event(), trio.Event()

    async def serve(*, task_status: trio.TaskStatus[Any]) -> None:
        run = partial(trio_sse.hypercorn.serve, app, config, shutdown_trigger=shutdown.wait, **options)
        await run(task_status=task_status)
        ended.set()

    async def shut_down() -> None:
        shutdown.set()
        await ended.wait()

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            (where,) = await nursery.start(serve)
            yield (0 if bind.startswith("unix:") else int(where.rpartition(":")[2])), shut_down
            nursery.cancel_scope.cancel()


async def connect(port: int, *, window: int = 65_535) -> RawHttp2:
    client = RawHttp2(await trio.open_tcp_stream("127.0.0.1", port))
    client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
    return client


@pytest.mark.integration
async def test_a_connection_whose_requests_were_reset_does_not_hold_up_a_shutdown() -> None:
    app = App()
    async with serving(app, drain_timeout=LONG) as (port, shut_down):
        client = await connect(port)
        async with client.stream:
            number = client.ask("/waits")
            await client.flush()
            await until(lambda: app.begun == 1)
            client.h2.reset_stream(number, h2.errors.ErrorCodes.CANCEL)
            await client.flush()
            await until(lambda: app.ended == 1)
            await shut_down()


@pytest.mark.integration
async def test_a_shutdown_waits_for_an_answer_on_a_connection_with_a_request_that_was_reset() -> None:
    app = App()
    async with serving(app, drain_timeout=LONG) as (port, shut_down):
        client = await connect(port)
        async with client.stream, trio.open_nursery() as nursery:
            numbers = [client.ask("/waits"), client.ask("/waits")]
            await client.flush()
            await until(lambda: app.begun == 2)
            nursery.start_soon(shut_down)
            client.h2.reset_stream(numbers[0], h2.errors.ErrorCodes.CANCEL)
            await client.flush()
            await until(lambda: app.ended == 1)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert app.ended == 1
            client.h2.reset_stream(numbers[1], h2.errors.ErrorCodes.CANCEL)
            await client.flush()


async def test_a_response_to_a_client_that_opens_no_window_ends_in_time() -> None:
    app = App()
    async with serving(app, write_timeout=0.1) as (port, _):
        client = await connect(port, window=0)
        async with client.stream:
            await client.flush()
            number = client.ask("/")
            await client.flush()
            await client.wait(h2.events.ResponseReceived, number)
            await until(lambda: app.ended == 1)


@pytest.mark.parametrize("path", ["/switches", "/is-short"])
async def test_a_response_that_is_not_acceptable_ends_its_own_connection_only(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = App()
    async with serving(app) as (port, _), await trio.open_tcp_stream("127.0.0.1", port) as waiting:
        await waiting.send_all(b"GET /waits HTTP/1.1\r\nHost: test\r\n\r\n")
        await until(lambda: app.begun == 1)
        for _ in range(3):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode() * 3)
                with suppress(trio.BrokenResourceError):
                    while await stream.receive_some():
                        pass
        assert app.begun - app.ended == 1
    assert "hypercorn failed" not in caplog.text


class FailingFilter(logging.Filter):
    """A filter of an application that fails, also with what is no `Exception`."""

    def filter(self, record: logging.LogRecord) -> bool:
        raise SystemExit("the filter fails")


@pytest.mark.integration
async def test_a_log_of_hypercorn_that_fails_ends_nothing(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    app, failing = App(), logging.getLogger("tests.failing")
    failing.addFilter(FailingFilter())
    failing.setLevel(logging.INFO)
    async with serving(app, errorlog=failing, accesslog=failing) as (port, _):
        waiting = await connect(port)
        async with waiting.stream:
            waiting.ask("/waits")
            await waiting.flush()
            await until(lambda: app.begun == 1)
            for path, status in (("/", "200"), ("/fails", "500")):
                client = await connect(port)
                async with client.stream:
                    number = client.ask(path)
                    await client.flush()
                    head = await client.wait(h2.events.ResponseReceived, number)
                    assert dict(head.headers)[":status"] == status
            await until(lambda: app.ended == 2)
            assert app.begun == 3
    assert "hypercorn failed" not in caplog.text
    assert "SystemExit: the filter fails" in capsys.readouterr().err


@pytest.mark.parametrize(("statsd_host", "is_chosen"), [(None, False), ("127.0.0.1:9", True)])
def test_the_log_of_statsd_is_contained_where_hypercorn_chooses_it(
    statsd_host: str | None, is_chosen: bool
) -> None:
    class ForStatsd(hypercorn.logging.Logger):
        pass

    config = Config()
    config.statsd_host = statsd_host
    ours = trio_sse.hypercorn._with_safe_settings(config, drain_timeout=1, on_access=lambda scope: None)
    ours.set_statsd_logger_class(ForStatsd)
    assert issubclass(ours.logger_class, ForStatsd) is is_chosen
    assert ours.logger_class not in (ForStatsd, hypercorn.logging.Logger)


async def test_a_shutdown_resets_no_client_that_connects_to_a_unix_socket(tmp_path: Path) -> None:
    path, answered, refused = tmp_path / "socket", 0, 0

    async def ask_until_refused() -> None:
        nonlocal answered, refused
        while True:
            try:
                stream = await trio.open_unix_socket(path)
            except FileNotFoundError:
                refused += 1
                return
            async with stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                answer = b""
                while data := await stream.receive_some():
                    answer += data
            assert answer.endswith(b"answer\r\n0\r\n\r\n")
            answered += 1

    async with serving(App(), bind=f"unix:{path}") as (_, shut_down), trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask_until_refused)
        await until(lambda: answered > 20)
        await shut_down()
    assert refused == 10


async def test_the_name_of_a_unix_socket_stays_if_others_have_the_socket_or_it_is_another_s(
    tmp_path: Path,
) -> None:
    path = tmp_path / "socket"
    async with serving(App(), bind=f"unix:{path}", exclusive=False) as (_, shut_down):
        await shut_down()
    assert path.exists()
    async with serving(App(), bind=f"unix:{path}") as (_, shut_down):
        path.unlink()
        path.touch()  # as a program does that takes it over
        await shut_down()
    assert path.exists()
