"""Stream a model whose client needs asyncio: `python -m examples.asyncio_model`.

Clients that are built on httpx, such as those of OpenAI and Anthropic, run on Trio as they are. For all
others, `from_asyncio` runs an asynchronous iterator in a thread with an asyncio loop of its own. It is
cancelled with the run, it waits while the run is behind, and what it raises is raised here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TypeVar

import trio

from trio_sse import Connection, Run, Runs, Server

PORT = int(os.environ.get("PORT", "8000"))
T = TypeVar("T")

server = Server()
runs = Runs(server.hub, ttl=600, cancel_when_unwatched=60)


@asynccontextmanager
async def from_asyncio(
    make: Callable[[], AsyncGenerator[T, None]],
) -> AsyncIterator[trio.MemoryReceiveChannel[T]]:
    """Iterate in Trio over what an asyncio generator yields; leaving the block cancels it."""
    sender, receiver = trio.open_memory_channel[T](0)
    task: asyncio.Task[object] | None = None
    is_left = False

    async def forward() -> None:  # on asyncio, in the thread
        nonlocal task
        task = asyncio.current_task()
        if is_left:
            return
        async with aclosing(make()) as items:
            async for item in items:
                trio.from_thread.run(sender.send, item)

    def run_loop() -> None:
        try:
            asyncio.run(forward())
        except asyncio.CancelledError as error:
            if not is_left:
                raise RuntimeError("the model was cancelled, but not from here") from error

    async def cancel_with_trio() -> None:
        nonlocal is_left
        try:
            await trio.sleep_forever()
        finally:
            is_left = True
            if task is not None:
                with suppress(RuntimeError):  # the loop has ended
                    task.get_loop().call_soon_threadsafe(task.cancel)

    async def run_thread() -> None:
        with sender:  # without a checkpoint: what the model has raised must not get lost
            async with trio.open_nursery() as watching:
                watching.start_soon(cancel_with_trio)
                await trio.to_thread.run_sync(run_loop)
                watching.cancel_scope.cancel()

    with receiver:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_thread)
            yield receiver
            nursery.cancel_scope.cancel()


async def model(prompt: str) -> AsyncGenerator[str, None]:
    """Stand in for a client that needs asyncio."""
    for word in f"You have said: {prompt} That is all I know.".split(" "):
        yield f"{word} "
        await asyncio.sleep(0.05)


async def answer(run: Run, prompt: str) -> None:
    """Answer, in the run's own task on Trio."""
    async with from_asyncio(lambda: model(prompt)) as words:
        async for word in words:
            await run.append(word)


@server.route("/answers", methods=["POST"])
async def ask(connection: Connection) -> None:
    run = await runs.start(answer, connection.request.body.decode(errors="replace"))
    await run.stream(connection)


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", PORT)
        print(f"curl -N http://127.0.0.1:{addresses[0][1]}/answers -d 'Hello!'", flush=True)


if __name__ == "__main__":
    trio.run(main)
