"""Stream a language model's answer over POST, in a Quart-Trio app: `python -m examples.ai_answer`.

Each answer is a topic, and a task publishes its words. A page that loses its connection asks again with the
id of the last word, and receives the rest. The task ends when the user stops it, or when no page has been
connected for ten seconds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import trio
from quart import abort, request
from quart_trio import QuartTrio

from examples.pages import FOLDER, add_pages, serve
from trio_sse import Connection, Server
from trio_sse.quart import QuartSSE

PATIENCE = 10.0  # seconds that an answer continues without a client

app = QuartTrio(__name__)
sse = QuartSSE(app)
answers: dict[str, trio.CancelScope] = {}  # the answers in progress


async def model(question: str) -> AsyncGenerator[str, None]:
    """Stand in for a model: stream the words of a text file."""
    for word in (await trio.Path(FOLDER / "answer.txt").read_text("utf-8")).split(" "):
        yield f"{word} "
        await trio.sleep(0.05)


# For a real model, whose client runs on Trio, change one line:  from examples.my_model import model
# (async for chunk in await openai.AsyncOpenAI().chat.completions.create(..., stream=True): yield ...)


async def write(key: str, question: str) -> None:
    """Publish an answer to its topic, until it is complete or its scope is cancelled."""
    with answers[key]:
        async with aclosing(model(question)) as words:
            async for word in words:
                await sse.hub.publish(key, word, event="word")
    stopped = answers.pop(key).cancelled_caught
    await sse.hub.publish(key, "stopped" if stopped else "done", event="end")


@sse.route("/answers/<key>", methods=["POST"])
async def stream_answer(connection: Connection, key: str) -> None:
    """Stream the answer to a question. With a Last-Event-ID, stream the rest of an answer in progress."""
    cursor = connection.last_event_id
    if cursor is None:
        question = (await request.get_data(as_text=True)).strip()
        if not question or key in answers or len(key) < 16:
            abort(400)
        cursor, answers[key] = sse.hub.last_event_id, trio.CancelScope()
        app.add_background_task(write, key, question)
    elif key in answers:
        answers[key].deadline = float("inf")
    try:
        async with sse.hub.subscribe(key, last_event_id=cursor) as events:
            async for event in events:
                await connection.send(event)
                if event.event != "word":  # the end, or a reset: the answer cannot be resumed
                    return
    finally:
        if key in answers:
            answers[key].deadline = trio.current_time() + PATIENCE


@app.delete("/answers/<key>")
async def stop(key: str) -> str:
    if key in answers:
        answers[key].cancel()
    return ""


if __name__ == "__main__":
    server = Server(app)
    add_pages(server, "ai_answer.html")
    trio.run(serve, server)
