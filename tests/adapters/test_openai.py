"""OpenAI's protocols, with OpenAI's own client."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import trio

from trio_sse import HTTPException, Request, Run, RunFailed, Runs, Server
from trio_sse.adapters.openai_chat import ChatCompletions
from trio_sse.adapters.openai_responses import Responses

from ..support.leaks import MakeServer
from ..support.serving import on_sockets
from ..support.waiting import SECONDS

if TYPE_CHECKING:  # at run time, tests import it when they need it: it takes more than a second
    import openai

# The client leaves asynchronous generators, and sockets of streams that raise, to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

T = TypeVar("T")

WORDS = "One two three, 四五 and six. "
USAGE = {"input_tokens": 3, "output_tokens": 9}


class Model:
    """A run's function: it answers with some words, waits where the test says so, and does what is asked."""

    def __init__(self) -> None:
        self.go_on = trio.Event()

    async def __call__(self, run: Run, body: Mapping[str, Any]) -> object:
        asked = str(body.get("input") or body["messages"][-1]["content"])
        if "fail" in asked:
            await run.append("Well, ")
            raise RunFailed("the model is overloaded")
        if "think" in asked:
            await run.emit("Let me ", event="reasoning")
            await run.emit("think.", event="reasoning")
        for word in WORDS.split(" ")[:-1]:
            await run.append(word + " ")
            if "slow" in asked and word == "and":
                await run.flush()
                await self.go_on.wait()
        await run.emit({"sources": 2}, event="sources")
        if "tool" in asked:
            await run.emit({"id": "c0", "name": "own", "executed": True}, event="tool_call")
            await run.emit({"id": "c1", "name": "weather", "arguments": {"city": "Bonn"}}, event="tool_call")
        return {"usage": USAGE}


class Serving:
    def __init__(self, model: Model, runs: Runs, url: str) -> None:
        self.model = model
        self.runs = runs
        self.url = url
        self._clients: dict[str, openai.OpenAI] = {}

    async def call(self, function: Callable[[openai.OpenAI], T], *, key: str = "ada") -> T:
        """Call a function of OpenAI's client in a thread."""

        def run() -> T:
            import openai

            if key not in self._clients:  # to make one takes a while
                options: Any = {"base_url": self.url, "timeout": SECONDS, "max_retries": 0}
                self._clients[key] = openai.OpenAI(api_key=key, **options)
            return function(self._clients[key])

        return await trio.to_thread.run_sync(run)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    async def go_on(self) -> None:
        self.model.go_on.set()


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Leave nothing to the garbage collector of another test."""
    yield
    gc.collect()


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Serving]:
    def owner(request: Request) -> str:
        token = (request.headers.get("authorization") or "").removeprefix("Bearer ")
        if token == "nobody":
            raise HTTPException(401, "who are you?")
        return token

    runs, model = Runs(server.hub, max_runs_per_owner=2), Model()
    chat, responses = ChatCompletions(runs, model, owner=owner), Responses(runs, model, owner=owner)
    server.route("/v1/chat/completions", methods=["POST"])(chat.create)
    server.route("/v1/chat/completions/{id}")(chat.join)
    server.route("/v1/responses", methods=["POST"])(responses.create)
    server.route("/v1/responses/{id}")(responses.retrieve)
    server.route("/v1/responses/{id}/cancel", methods=["POST"])(responses.cancel)
    async with on_sockets(server) as sockets:
        with closing(Serving(model, runs, sockets.url("/v1"))) as serving:
            yield serving


def asked(text: str) -> Any:
    return {"model": "stand-in", "messages": [{"role": "user", "content": text}]}


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.mark.slow
async def test_chat_completions(make_server: MakeServer) -> None:
    async with serving(make_server(keepalive=0.05)) as host:
        whole = await host.call(lambda client: client.chat.completions.create(**asked("tool")))
        choice = whole.choices[0]
        assert (choice.message.content, choice.finish_reason) == (WORDS, "tool_calls")
        assert choice.message.tool_calls is not None
        (call,) = choice.message.tool_calls
        assert call.type == "function"
        assert (call.id, call.function.name, call.function.arguments) == ("c1", "weather", '{"city":"Bonn"}')
        assert whole.usage is not None
        assert whole.usage.total_tokens == 12
        assert whole.model == "stand-in"

        options = {"stream": True, "stream_options": {"include_usage": True}}
        chunks = await host.call(
            lambda client: list(client.chat.completions.create(**asked("tool"), **options))
        )
        assert text_of(chunks) == WORDS
        assert {chunk.id for chunk in chunks} == {chunks[0].id}
        assert chunks[-1].usage.total_tokens == 12
        assert [chunk.choices[0].finish_reason for chunk in chunks[-3:-1]] == [None, "tool_calls"]

        def stream(client: openai.OpenAI) -> Any:
            with client.chat.completions.stream(**asked("tool")) as events:
                for _ in events:
                    pass
                return events.get_final_completion()

        final = await host.call(stream)
        assert final.choices[0].message.content == WORDS
        assert final.choices[0].message.tool_calls[0].function.arguments == '{"city":"Bonn"}'


async def test_a_chat_completion_is_joined_after_any_chunk(make_server: MakeServer) -> None:
    async with serving(make_server()) as host:

        def begin(client: openai.OpenAI) -> list[Any]:
            chunks = []
            with client.chat.completions.create(**asked("slow"), stream=True) as stream:
                for chunk in stream:
                    chunks.append(chunk)
                    if "四" in (chunk.choices[0].delta.content or ""):
                        break
            return chunks

        chunks = await host.call(begin)
        await host.go_on()
        path = f"/chat/completions/{chunks[0].id}?stream=true"
        tag = chunks[0].id.removeprefix("chatcmpl-")[:8]

        def resume(client: openai.OpenAI) -> list[Any]:
            import openai
            from openai.types.chat import ChatCompletionChunk

            headers = {"Last-Event-ID": f"{tag}.{len(chunks) - 1}"}
            kind = openai.Stream[ChatCompletionChunk]
            return list(
                client.get(
                    path,
                    cast_to=ChatCompletionChunk,
                    stream=True,
                    stream_cls=kind,
                    options={"headers": headers},
                )
            )

        assert text_of([*chunks, *await host.call(resume)]) == WORDS
        joined = await host.call(lambda client: client.chat.completions.retrieve(chunks[0].id))
        assert joined.choices[0].message.content == WORDS


@pytest.mark.slow
async def test_errors_are_those_that_the_client_knows(make_server: MakeServer) -> None:
    import openai

    async with serving(make_server()) as host:

        async def refused(function: Callable[[openai.OpenAI], Any], key: str = "ada") -> openai.APIError:
            with pytest.raises(openai.APIError) as excinfo:
                await host.call(function, key=key)
            return excinfo.value

        create = asked("fail")
        error = await refused(lambda client: client.chat.completions.create(**create))
        assert isinstance(error, openai.InternalServerError)
        assert error.body == {
            "message": "the model is overloaded",
            "type": "server_error",
            "param": None,
            "code": "failed",
        }
        error = await refused(lambda client: list(client.chat.completions.create(**create, stream=True)))
        assert error.message == "the model is overloaded"
        error = await refused(lambda client: client.responses.create(), "nobody")
        assert isinstance(error, openai.BadRequestError)
        error = await refused(lambda client: client.chat.completions.create(**create), "nobody")
        assert isinstance(error, openai.AuthenticationError)
        error = await refused(lambda client: client.responses.retrieve("resp_unknown"))
        assert isinstance(error, openai.NotFoundError)

        def background(client: openai.OpenAI) -> Any:
            return client.responses.create(input="slow", background=True)

        first, second = await host.call(background), await host.call(background)
        assert isinstance(await refused(background), openai.RateLimitError)
        error = await refused(lambda client: client.responses.retrieve(first.id), "another")
        assert isinstance(error, openai.NotFoundError)
        error = await refused(lambda client: client.responses.cancel(first.id), "another")
        assert isinstance(error, openai.NotFoundError)
        assert (await host.call(lambda client: client.responses.cancel(first.id))).status == "cancelled"
        await host.go_on()
        events = await host.call(lambda client: list(client.responses.retrieve(second.id, stream=True)))
        assert events[-1].type == "response.completed"


def deltas(events: list[Any]) -> str:
    return "".join(event.delta for event in events if event.type == "response.output_text.delta")


@pytest.mark.slow
async def test_responses(make_server: MakeServer) -> None:
    async with serving(make_server(keepalive=0.05)) as host:

        def whole(client: openai.OpenAI) -> Any:
            return client.responses.create(model="stand-in", input="think, tool", metadata={"a": "b"})

        response = await host.call(whole)
        assert [item.type for item in response.output] == ["reasoning", "message", "function_call"]
        assert response.output[0].content[0].text == "Let me think."
        assert response.output_text == WORDS
        assert response.output[2].arguments == '{"city":"Bonn"}'
        assert (response.status, response.metadata) == ("completed", {"a": "b"})
        assert response.usage.total_tokens == 12

        def stream(client: openai.OpenAI) -> tuple[list[Any], Any]:
            with client.responses.stream(model="stand-in", input="think, tool") as events:
                return list(events), events.get_final_response()

        events, final = await host.call(stream)
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert (final.output_text, final.status) == (WORDS, "completed")
        found = await host.call(lambda client: client.responses.retrieve(final.id))
        assert found.output_text == WORDS

        def fail(client: openai.OpenAI) -> list[Any]:
            return list(client.responses.create(input="fail", stream=True))

        *_, last = await host.call(fail)
        assert last.type == "response.failed"
        assert last.response.error is not None
        assert last.response.error.message == "the model is overloaded"


async def test_a_response_is_resumed_after_any_number(make_server: MakeServer) -> None:
    async with serving(make_server()) as host:

        def begin(client: openai.OpenAI) -> list[Any]:
            events = []
            with client.responses.create(input="slow, think", stream=True, background=True) as stream:
                for event in stream:
                    events.append(event)
                    if event.type == "response.output_text.delta" and "五" in event.delta:
                        break
            return events

        begun = await host.call(begin)
        id = begun[0].response.id
        so_far = await host.call(lambda client: client.responses.retrieve(id))
        assert so_far.status == "in_progress"
        assert WORDS.startswith(so_far.output_text)
        assert "五" in so_far.output_text

        def resume(after: int, client: openai.OpenAI) -> list[Any]:
            return list(client.responses.retrieve(id, stream=True, starting_after=after))

        await host.go_on()
        everything = begun + await host.call(partial(resume, begun[-1].sequence_number))
        assert deltas(everything) == WORDS
        assert [event.sequence_number for event in everything] == list(range(len(everything)))
        for after in (0, 5, len(everything) - 1):
            assert await host.call(partial(resume, after)) == everything[after + 1 :]

        def follow(client: openai.OpenAI) -> list[Any]:
            with client.responses.stream(response_id=id, starting_after=9) as events:
                return list(events)

        followed = await host.call(follow)
        assert [event.sequence_number for event in followed] == list(range(10, len(everything)))
        with pytest.raises(Exception, match="sequence number"):
            await host.call(
                lambda client: client.get(f"/responses/{id}?stream=true&starting_after=x", cast_to=object)
            )


async def test_the_asyncio_client_runs_on_trio(make_server: MakeServer) -> None:
    import openai

    async def ask(run: Run, url: str) -> None:
        async with (
            openai.AsyncOpenAI(base_url=url, api_key="ada", max_retries=0) as client,
            await client.chat.completions.create(**asked("?"), stream=True) as chunks,
        ):
            async for chunk in chunks:
                await run.append(chunk.choices[0].delta.content or "")

    async with serving(make_server()) as host:
        view = await host.runs.start(ask, host.url)
        assert (await view.wait()).reason is None
        async with view.events() as items:
            assert "".join([getattr(item, "text", "") async for item in items]) == WORDS
