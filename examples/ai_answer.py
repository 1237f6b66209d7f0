"""Stream a model's answer that survives a reload, in a Quart-Trio app: `python -m examples.ai_answer`.

Each answer is a run. It goes on when the page is reloaded or loses its connection, and can be watched in
several windows. It ends when it is complete, when somebody stops it, or when nobody has watched for a minute.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing

import trio
from quart_trio import QuartTrio

from examples.pages import FOLDER, add_pages, serve
from trio_sse import Run, Runs, Server
from trio_sse.client import EventSource
from trio_sse.quart import QuartSSE

app = QuartTrio(__name__)
sse = QuartSSE(app)
runs = Runs(sse.hub, ttl=600, cancel_when_unwatched=60)


async def stand_in(question: str) -> AsyncGenerator[str, None]:
    """Stream the words of a text file, as a model streams its answer."""
    for word in (await trio.Path(FOLDER / "answer.txt").read_text("utf-8")).split(" "):
        yield f"{word} "
        await trio.sleep(0.05)


async def real_model(question: str) -> AsyncGenerator[str, None]:
    """Stream a model's answer by OpenAI's protocol, which most servers of models speak."""
    body = {"model": os.environ["MODEL"], "messages": [{"role": "user", "content": question}], "stream": True}
    headers = {
        "Authorization": f"Bearer {os.environ.get('API_KEY', 'none')}",
        "Content-Type": "application/json",
    }
    url = os.environ.get("MODEL_URL", "http://127.0.0.1:11434/v1") + "/chat/completions"  # as Ollama has it
    content = json.dumps(body).encode()
    async with EventSource(url, method="POST", headers=headers, content=content, idle_timeout=300) as events:
        async for event in events:
            if event.data == "[DONE]":
                return
            for choice in json.loads(str(event.data))["choices"]:
                yield choice["delta"].get("content") or ""


model = stand_in  # for a real one, change this line:  model = real_model


@sse.run("/answers", runs=runs)
async def answer(run: Run, question: object) -> None:
    """Write an answer, in the run's own task; the page joins and stops it at the paths below `/answers`."""
    async with aclosing(model(str(question))) as words:
        async for word in words:
            await run.append(word)


if __name__ == "__main__":
    server = Server(app)
    add_pages(server, "ai_answer.html")
    trio.run(serve, server)
