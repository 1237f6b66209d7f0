"""Serve a model to OpenAI's clients, by both of their protocols: `python -m examples.openai_compatible`.

Each answer is a run: it goes on when its client disconnects, and a client of the Responses API resumes after
the last event it has received. Try it with any program that lets you set OpenAI's base URL, or so::

    client = openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="any")
    for event in client.responses.create(model="parrot", input="Hello!", stream=True):
        print(event.sequence_number, event.type)
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import trio

from trio_sse import Run, Runs, Server
from trio_sse.adapters.openai_chat import ChatCompletions
from trio_sse.adapters.openai_responses import Responses

PORT = int(os.environ.get("PORT", "8000"))

server = Server()
runs = Runs(server.hub, ttl=600)


async def model(prompt: str) -> AsyncGenerator[str, None]:
    """Stand in for a model; docs/models.md has the lines for real ones."""
    for word in f"You have said: {prompt} That is all I know.".split(" "):
        yield f"{word} "
        await trio.sleep(0.05)


async def answer(run: Run, request: Mapping[str, Any]) -> object:
    """Answer a request of either protocol, in the run's own task."""
    prompt = str(request["messages"][-1]["content"] if "messages" in request else request["input"])
    words = 0
    async with aclosing(model(prompt)) as pieces:
        async for piece in pieces:
            await run.append(piece)
            words += 1
    return {"usage": {"input_tokens": len(prompt.split()), "output_tokens": words}}


chat = ChatCompletions(runs, answer)
server.route("/v1/chat/completions", methods=["POST"])(chat.create)
server.route("/v1/chat/completions/{id}")(chat.join)

responses = Responses(runs, answer)
server.route("/v1/responses", methods=["POST"])(responses.create)
server.route("/v1/responses/{id}")(responses.retrieve)
server.route("/v1/responses/{id}/cancel", methods=["POST"])(responses.cancel)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", PORT)
        url = f"http://127.0.0.1:{addresses[0][1]}/v1/responses"
        print(f"""curl -N {url} -d '{{"input": "Hello!", "stream": true}}'""", flush=True)


if __name__ == "__main__":
    trio.run(main)
