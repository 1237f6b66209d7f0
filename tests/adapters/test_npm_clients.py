"""The AI SDK's and AG-UI's protocols, with their own clients in Node.js."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_sse import Request, Response, Run, RunFailed, Runs, RunStatus, Server
from trio_sse.adapters.ag_ui import AgUi
from trio_sse.adapters.ai_sdk import UIMessageStream, text_of

from ..support.leaks import MakeServer
from ..support.requirements import find, needs
from ..support.serving import on_sockets

pytestmark = [pytest.mark.integration, needs("node")]

BUNDLE = Path(__file__).parent / "clients" / "clients.mjs.gz"
WORDS = "One two three, 四五 and six. "


class Agent:
    """A run's function that does what the last message asks for."""

    def __init__(self) -> None:
        self.go_on = trio.Event()
        self.is_seen = trio.Event()  # the first state

    async def __call__(self, run: Run, body: Mapping[str, Any]) -> object:
        message = body["messages"][-1]
        asked = text_of(message) if "parts" in message else message["content"]
        if "fail" in asked:
            await run.append("Well, ")
            raise RunFailed("the model is overloaded")
        await run.emit("Let me ", event="reasoning")
        await run.emit("think.", event="reasoning")
        await run.set_state({"step": 1, "found": ["Bonn"], "a/b": None})
        if "watch" in asked:
            await self.is_seen.wait()
        call = {"id": "c1", "name": "weather", "arguments": {"city": "Bonn"}}
        await run.emit(call, event="tool_call")
        await run.emit({"id": "c1", "result": {"sun": True}}, event="tool_result")
        for word in WORDS.split(" ")[:-1]:
            await run.append(word + " ")
            await run.append(word.upper(), name="notes")
            if "slow" in asked and word == "and":
                await run.flush()
                await self.go_on.wait()
        await run.emit({"pages": 2}, event="sources")
        await run.set_state({"step": 2, "found": ["Bonn", "Köln"], "is": True})
        return {"usage": {"output_tokens": 9}}


class Serving:
    def __init__(self, runs: Runs, url: str, bundle: Path) -> None:
        self.runs = runs
        self._url = url
        self._bundle = bundle

    async def node(self, script: str) -> Any:
        """Run a script with `clients` and `url`; return what it returns."""
        program = f"""
            import * as clients from {json.dumps(self._bundle.as_uri())};
            const url = {json.dumps(self._url)};
            const main = async () => {{ {script} }};
            main().then((value) => console.log(JSON.stringify(value)));
        """
        command = [find("node"), "--input-type=module", "-e", program]
        finished = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        assert finished.returncode == 0, finished.stderr.decode()
        return json.loads(finished.stdout)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clients") / "clients.mjs"
    path.write_bytes(gzip.decompress(BUNDLE.read_bytes()))
    return path


@asynccontextmanager
async def serving(server: Server, bundle: Path) -> AsyncIterator[Serving]:
    runs, function = Runs(server.hub), Agent()
    chat, agent = UIMessageStream(runs, function), AgUi(runs, function)
    server.route("/api/chat", methods=["POST"])(chat.create)
    server.route("/api/chat/{id}/stream")(chat.resume)
    server.route("/api/chat/{id}/stop", methods=["POST"])(chat.stop)
    server.route("/agent", methods=["POST"])(agent.run)
    server.route("/agent/{id}/stream")(agent.resume)
    server.route("/agent/{id}/stop", methods=["POST"])(agent.stop)

    @server.endpoint("/go-on", methods=["POST"])
    async def go_on(request: Request) -> Response:
        function.go_on.set()
        return Response("")

    @server.endpoint("/seen", methods=["POST"])
    async def seen(request: Request) -> Response:
        function.is_seen.set()
        return Response("")

    async with on_sockets(server) as sockets:
        yield Serving(runs, sockets.url(""), bundle)


# A chat as `useChat` keeps it, with its messages in an object.
CHAT = """
    class Chat extends clients.AbstractChat {
      constructor(id, messages, seen) {
        super({
          id, transport: new clients.DefaultChatTransport({api: url + "/api/chat"}),
          onError: (error) => { this.failure = error.message; },
          onFinish: ({isAbort}) => { this.isAbort = isAbort; },
          state: {
            status: "ready", error: undefined, messages,
            pushMessage(message) { this.messages = [...this.messages, message]; seen?.(message); },
            popMessage() { this.messages = this.messages.slice(0, -1); },
            replaceMessage(index, message) {
              this.messages = this.messages.with(index, message); seen?.(message);
            },
            snapshot: (value) => structuredClone(value),
          },
        });
      }
    }
    const textOf = (message) => message.parts.filter(
      ({type, providerMetadata}) => type === "text" && !providerMetadata
    ).map(({text}) => text).join("");
"""


async def test_a_chat_shows_its_parts_resumes_and_is_stopped(make_server: MakeServer, bundle: Path) -> None:
    async with serving(make_server(keepalive=0.05), bundle) as host:
        message, failure, status, resumed = await host.node(f"""{CHAT}
            const chat = new Chat("whole", []), failing = new Chat("failing", []);
            await chat.sendMessage({{text: "hello"}});
            await failing.sendMessage({{text: "fail"}});

            const begin = (id, after) => new Promise((resolve) => {{
              const chat = new Chat(id, [], (message) => {{
                if (message.role === "assistant" && textOf(message).includes(after)) resolve(chat);
              }});
              chat.answered = chat.sendMessage({{text: "slow"}});
            }});
            const first = await begin("a", "四");
            const kept = structuredClone(first.messages);
            await first.stop();
            const resume = (messages) => new Promise((resolve) => {{
              const chat = new Chat("a", messages, () => resolve(chat));
              chat.answered = chat.resumeStream();
            }});
            const [reloaded, fresh] = await Promise.all([resume(kept), resume(kept.slice(0, 1))]);
            const stopped = await begin("b", "五");
            await fetch(url + "/api/chat/b/stop", {{method: "POST"}});
            await stopped.answered;
            await fetch(url + "/go-on", {{method: "POST"}});
            await Promise.all([reloaded.answered, fresh.answered]);
            const transport = new clients.DefaultChatTransport({{api: url + "/api/chat"}});
            return [chat.lastMessage, failing.failure, failing.status, [
              textOf(reloaded.lastMessage), textOf(fresh.lastMessage), reloaded.messages.length,
              await transport.reconnectToStream({{chatId: "a"}}),
            ]];
        """)
        parts = {part["type"]: part for part in message["parts"] if "providerMetadata" not in part}
        (notes,) = [part for part in message["parts"] if "providerMetadata" in part]
        assert (notes["type"], notes["state"], notes["text"]) == (
            "text",
            "done",
            WORDS.upper().replace(" ", ""),
        )
        assert notes["providerMetadata"] == {"trio_sse": {"name": "notes"}}
        assert set(parts) == {"step-start", "reasoning", "tool-weather", "text", "data-sources", "data-state"}
        assert parts["reasoning"]["text"] == "Let me think."
        assert parts["tool-weather"]["state"] == "output-available"
        assert parts["tool-weather"]["input"] == {"city": "Bonn"}
        assert parts["tool-weather"]["output"] == {"sun": True}
        assert (parts["text"]["text"], parts["text"]["state"]) == (WORDS, "done")
        assert parts["data-sources"]["data"] == {"pages": 2}
        assert parts["data-state"]["data"]["step"] == 2
        assert message["metadata"] == {"usage": {"output_tokens": 9}}
        assert (failure, status) == ("the model is overloaded", "error")
        assert resumed == [WORDS, WORDS, 2, None]
        assert [info.status for info in await host.runs.list(owner="/b")] == [RunStatus.CANCELLED]


AGENT = """
    const run = async (agent, input, text) => {
      const seen = [];
      agent.messages = [{id: "m1", role: "user", content: text}];
      await agent.runAgent(input, {
        onEvent: ({event}) => {
          seen.push(event);
          if (event.type === "STATE_SNAPSHOT") fetch(url + "/seen", {method: "POST"});
        },
        onRunFailed: ({error}) => { agent.failure = error.message; },
      }).catch(() => {});
      return seen;
    };
"""


async def test_an_agent_runs_is_joined_and_is_stopped_for_all(make_server: MakeServer, bundle: Path) -> None:
    async with serving(make_server(keepalive=0.05), bundle) as host:
        messages, state, seen, again, failed, stopped = await host.node(f"""{AGENT}
            const make = () => new clients.HttpAgent({{url: url + "/agent", threadId: "t1"}});
            const agent = make(), second = make();
            const seen = await run(agent, {{runId: "r1"}}, "hello, watch");
            const again = await run(second, {{runId: "r1"}}, "hello");
            const failed = await run(make(), {{runId: "r2"}}, "fail");
            const running = run(make(), {{runId: "r3"}}, "slow");
            let response;
            do {{ response = await fetch(url + "/agent/t1/stream"); }} while (response.status === 204);
            await fetch(url + "/agent/t1/stop", {{method: "POST"}});
            const followed = await response.text();
            const over = (await fetch(url + "/agent/t1/stream")).status;
            return [agent.messages, agent.state, seen, again, failed, [await running, followed, over]];
        """)
        assert [message["role"] for message in messages] == [
            *("user", "reasoning", "assistant", "tool", "assistant", "assistant")
        ]
        texts = {message.get("name"): message["content"] for message in messages[4:]}
        assert texts == {None: WORDS, "notes": WORDS.upper().replace(" ", "")}
        assert messages[1]["content"] == "Let me think."
        call = messages[2]["toolCalls"][0]
        assert (call["id"], call["function"]["name"]) == ("c1", "weather")
        assert json.loads(call["function"]["arguments"]) == {"city": "Bonn"}
        assert json.loads(messages[3]["content"]) == {"sun": True}
        assert state == {"step": 2, "found": ["Bonn", "Köln"], "is": True}
        assert [event["type"] for event in seen if "STATE" in event["type"]] == [
            "STATE_SNAPSHOT",
            "STATE_DELTA",
        ]
        kinds = [event["type"] for event in seen]
        assert (kinds[0], kinds[-1]) == ("RUN_STARTED", "RUN_FINISHED")
        assert seen[0]["runId"] == "r1"
        assert seen[-1]["result"] == {"usage": {"output_tokens": 9}}
        assert next(event for event in seen if event["type"] == "CUSTOM")["value"] == {"pages": 2}
        without_states, of_late = (
            [e for e in events if "STATE" not in e["type"]] for events in (seen, again)
        )
        assert sorted(map(json.dumps, without_states)) == sorted(map(json.dumps, of_late))
        assert failed[-1] == {"type": "RUN_ERROR", "message": "the model is overloaded", "code": "failed"}
        events, followed, over = stopped
        assert events[-1]["outcome"] == {"type": "cancelled"}
        assert '"outcome":{"type":"cancelled"}' in followed
        assert over == 204
        assert len(await host.runs.list(owner="/t1")) == 3
