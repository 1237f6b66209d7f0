"""`QuartSSE`: streams in a Quart-Trio app, as its users write them; mostly on our server, in memory."""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from typing import Any

import pytest
import trio
from quart import Blueprint, abort, after_this_request, g, request, session
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EndReason, HTTPException, ServerSentEvent

from ..support.leaks import LeakCheck
from ..support.quart_app import App, data_of

# Routes and handlers


async def test_the_url_s_variables_are_passed_by_name(made: App) -> None:
    @made.sse.route("/rooms/<room>/<int:number>")
    async def rooms(connection: Connection, room: str, number: int) -> None:
        await connection.send([room, number])

    assert callable(rooms)
    async with made.client() as client:
        assert await data_of(client, "/rooms/one/2") == ['["one",2]']
        assert (await client.get("/rooms/one/two")).status == 404
        assert made.app.url_map.is_endpoint_expecting("rooms", "room", "number")


async def test_a_generator_s_events_are_sent(made: App) -> None:
    @made.sse.route("/count/<int:to>")
    async def count(to: int) -> AsyncIterator[object]:
        yield "text"
        yield {"to": to}
        yield ServerSentEvent("typed", event="e", id="7")

    @made.sse.route("/peer")
    async def peer(connection: Connection) -> AsyncIterator[object]:
        yield connection.peer

    async with made.client() as client:
        assert await data_of(client, "/count/3") == ["text", '{"to":3}', "typed"]
        assert await data_of(client, "/peer") == ["test"]


async def test_a_generator_is_closed_when_its_client_disconnects(
    made: App, autojump_clock: MockClock
) -> None:
    closed = trio.Event()

    @made.sse.route("/endless")
    async def endless() -> AsyncIterator[str]:
        try:
            while True:
                yield "again"
                await trio.sleep(1)
        finally:
            closed.set()

    async with made.client() as client:
        async with client.stream("/endless") as stream:
            await stream.events(3)
        await wait_all_tasks_blocked()
        assert closed.is_set()
        assert made.ends == [EndReason.CLIENT_DISCONNECTED]


async def test_other_decorators_see_an_ordinary_view(made: App) -> None:
    View = Callable[..., Awaitable[Any]]

    def login_required(view: View) -> View:
        @wraps(view)
        async def checked(**variables: object) -> Any:
            if "user" not in session:
                abort(401)
            response = await view(**variables)
            response.headers["X-Decorated"] = "yes"
            return response

        return checked

    @made.app.post("/login")
    async def login() -> str:
        session["user"] = await request.get_data(as_text=True)
        return "welcome"

    @made.app.get("/private/<int:n>")
    @login_required
    @made.sse.stream
    async def private(connection: Connection, n: int) -> None:
        await connection.send([session["user"], n])

    async with made.client() as client:
        assert (await client.get("/private/1")).status == 401
        await client.post("/login", body="Ada")
        async with client.stream("/private/1") as stream:
            assert stream.headers.get("x-decorated") == "yes"
            assert (await stream.event()).json() == ["Ada", 1]


async def test_blueprints_may_have_streams(made: App) -> None:
    outer, inner = Blueprint("outer", __name__, url_prefix="/outer"), Blueprint("inner", __name__)

    @inner.before_request
    async def mark() -> None:
        g.mark = "seen"

    @inner.after_request
    async def answer(response: Any) -> Any:
        response.headers["X-Blueprint"] = "inner"
        return response

    @inner.get("/s/<name>")
    @made.sse.stream
    async def s(connection: Connection, name: str) -> None:
        await connection.send([name, g.mark, request.blueprint])

    outer.register_blueprint(inner)
    made.app.register_blueprint(outer)
    async with made.client() as client, client.stream("/outer/s/x") as stream:
        assert stream.headers.get("x-blueprint") == "inner"
        assert (await stream.event()).json() == ["x", "seen", "outer.inner"]


# Before the stream, and in it


async def test_the_request_stays_readable_in_the_stream(made: App, autojump_clock: MockClock) -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    @made.app.before_request
    async def prepare() -> None:
        g.user = "me"
        variable.set("set")

    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        await connection.start()
        await trio.sleep(5)
        what = [g.user, request.path, request.args["a"], request.headers["X-Mine"], variable.get()]
        await connection.send([*what, connection.request.query["a"], session.get("none")])

    async with made.client(headers={"X-Mine": "h"}) as client:
        assert await data_of(client, "/s?a=b") == ['["me","/s","b","h","set","b",null]']


async def test_a_body_can_be_read_before_the_stream(made: App) -> None:
    @made.sse.route("/form", methods=["POST"])
    async def form(connection: Connection) -> None:
        await connection.send((await request.form)["question"])

    async with made.client() as client:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        assert await data_of(client, "/form", method="POST", body="question=why", headers=kind) == ["why"]
        assert (await client.get("/form")).status == 405


async def test_the_head_is_that_of_a_stream(made: App) -> None:
    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        @after_this_request
        async def add(response: Any) -> Any:
            response.set_cookie("a", "b")
            return response

        session["seen"] = 1
        await connection.send("one")

    @made.app.after_request
    async def mark(response: Any) -> Any:
        response.headers["X-After"] = "yes"
        return response

    async with made.client() as client:
        async with client.stream("/s") as stream:
            assert stream.headers.get("content-type") == "text/event-stream"
            assert stream.headers.get("cache-control") == "no-cache, no-transform"
            assert stream.headers.get("x-accel-buffering") == "no"
            assert stream.headers.get("transfer-encoding") == "chunked"
            assert stream.headers.get("x-after") == "yes"
        assert client.cookies["a"] == "b"
        assert "session" in client.cookies


async def test_error_handlers_answer_what_the_handler_raises(
    made: App, caplog: pytest.LogCaptureFixture
) -> None:
    class OutOfStock(Exception):
        pass

    @made.app.errorhandler(401)
    async def unauthorized(error: Exception) -> tuple[str, int]:
        return "log in first", 401

    @made.app.errorhandler(OutOfStock)
    async def out_of_stock(error: Exception) -> tuple[str, int]:
        return "none left", 409

    @made.sse.route("/abort")
    async def refuse(connection: Connection) -> None:
        abort(401)

    @made.sse.route("/own")
    async def own(connection: Connection) -> None:
        async with trio.open_nursery():
            raise OutOfStock

    @made.sse.route("/generator")
    async def generator() -> AsyncIterator[str]:
        abort(401)
        yield ""

    async with made.client() as client:
        for path, status, text in (
            ("/abort", 401, "log in first"),
            ("/own", 409, "none left"),
            ("/generator", 401, "log in first"),
        ):
            response = await client.get(path)
            assert (response.status, response.text) == (status, text)
    assert made.ends == [EndReason.REFUSED, EndReason.HANDLER_ERROR, EndReason.REFUSED]
    assert not [record for record in caplog.records if record.exc_info]


async def test_our_own_refusals_are_answered(made: App) -> None:
    @made.sse.route("/refuse")
    async def refuse(connection: Connection) -> None:
        raise HTTPException(429, "later", {"Retry-After": "7"})

    @made.sse.route("/topic")
    async def topic(connection: Connection) -> None:
        await connection.subscribe("\n")

    async with made.client() as client:
        response = await client.get("/refuse")
        assert (response.status, response.text) == (429, "later\n")
        assert response.headers.get("retry-after") == "7"
        assert (await client.get("/topic")).status == 400


async def test_before_request_may_answer_itself(made: App) -> None:
    @made.app.before_request
    async def closed() -> tuple[str, int]:
        return "closed", 503

    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        raise AssertionError

    async with made.client() as client:
        assert (await client.get("/s")).text == "closed"
    assert made.ends == []


@pytest.mark.parametrize("replace", [True, False])
async def test_a_response_that_is_replaced_ends_its_handler(made: App, replace: bool) -> None:
    cancelled = trio.Event()

    @made.app.after_request
    async def after(response: Any) -> Any:
        if not replace:
            raise ValueError("in after_request")
        return made.app.response_class("something else")

    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        try:
            await connection.send("never")
        finally:
            cancelled.set()

    async with made.client() as client:
        response = await client.get("/s")
        assert (response.status, b"never" in response.body) == (200 if replace else 500, False)
        await wait_all_tasks_blocked()
        assert cancelled.is_set()
        assert made.ends == [EndReason.REFUSED]


async def test_a_handler_that_sends_nothing_may_have_its_response_replaced(made: App) -> None:
    @made.app.after_request
    async def after(response: Any) -> Any:
        return made.app.response_class("something else")

    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        pass

    async with made.client() as client:
        for _ in range(2):
            assert (await client.get("/s")).text == "something else"
    assert made.ends == [EndReason.REFUSED] * 2


async def test_a_stream_that_ends_while_hooks_run_is_a_503(
    no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    made = App(no_leak, max_duration=5)

    @made.app.after_request
    async def after(response: Any) -> Any:
        await trio.sleep(10)
        return response

    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        await connection.send("too late")
        raise AssertionError

    async with made.client() as client:
        response = await client.get("/s")
        assert (response.status, response.is_cut) == (503, False)
        assert made.ends == [EndReason.MAX_DURATION]


async def test_a_stream_s_body_can_not_be_read_by_hooks(made: App) -> None:
    @made.app.after_request
    async def read(response: Any) -> Any:
        await response.get_data()
        return response

    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        await connection.send("one")

    async with made.client() as client:
        assert (await client.get("/s")).status == 500


async def test_a_disconnect_before_the_stream_cancels_the_handler(
    made: App, autojump_clock: MockClock
) -> None:
    entered, cancelled = trio.Event(), trio.Event()

    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        entered.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with made.client(timeout=5) as client:
        with pytest.raises((trio.TooSlowError, ExceptionGroup)):
            await client.get("/s")
        await wait_all_tasks_blocked()
        assert entered.is_set()
        assert cancelled.is_set()
    assert made.ends == [EndReason.CLIENT_DISCONNECTED]


async def test_a_stream_that_reaches_its_longest_duration_before_it_begins_is_a_503(
    no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    made = App(no_leak, max_duration=5, keepalive=100)

    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        await trio.sleep_forever()

    async with made.client() as client:
        assert (await client.get("/s")).status == 503
    assert made.ends == [EndReason.MAX_DURATION]


async def test_a_keepalive_begins_a_stream_whose_handler_is_slow(
    made: App, autojump_clock: MockClock
) -> None:
    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        await trio.sleep(40)
        await connection.send("at last")

    async with made.client() as client, client.stream("/s") as stream:
        assert stream.status == 200
        assert (await stream.event()).data == "at last"
        assert stream.keepalives >= 1


async def test_several_tasks_may_send_the_first_event(made: App) -> None:
    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(connection.send, f"{number}")

    async with made.client() as client:
        assert sorted(str(data) for data in await data_of(client, "/s")) == ["0", "1", "2", "3", "4"]


async def test_streams_beyond_the_limit_of_the_app_are_refused(
    no_leak: LeakCheck, autojump_clock: MockClock
) -> None:
    made = App(no_leak, max_connections=1)

    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        await connection.subscribe("t")

    async with made.client() as client, client.stream("/s"):
        response = await client.get("/s")
        assert (response.status, response.headers.get("retry-after") is not None) == (503, True)


async def test_hooks_are_called_and_may_refuse(made: App) -> None:
    @made.sse.on_connect
    async def check(connection: Connection) -> None:
        if "good" not in request.args:
            abort(403)

    @made.sse.route("/s")
    async def s(connection: Connection) -> None:
        await connection.send("in")

    async with made.client() as client:
        assert (await client.get("/s")).status == 403
        assert await data_of(client, "/s?good") == ["in"]
    assert made.ends == [EndReason.FINISHED]
    statistics = made.sse.statistics()
    assert (statistics.open_streams, statistics.opened, statistics.events_sent) == (0, 2, 1)


async def test_ordinary_views_are_served_too(made: App) -> None:
    @made.app.get("/plain")
    async def plain() -> str:
        return "plain"

    async with made.client() as client:
        assert (await client.get("/plain")).text == "plain"
        assert (await client.get("/nowhere")).status == 404


async def test_a_response_that_was_kept_is_for_its_own_request_only(
    made: App, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(connection: Connection) -> None:
        await connection.send("data")

    view = made.sse.stream(handle)
    kept = []

    @made.app.get("/keep")
    async def keep() -> Any:
        kept.append(await view())
        return "kept"

    @made.app.get("/use")
    async def use() -> Any:
        return kept.pop()

    async with made.client() as client:
        assert (await client.get("/keep")).status == 200
    async with made.client() as client:
        assert (await client.get("/use")).status == 500
    assert "the app's call for this request has returned" in caplog.text
