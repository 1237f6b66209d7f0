"""Running `trio-sse top`: its tasks, and the screen that they draw on."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing, nullcontext
from typing import final

import trio
from rich.console import Console
from rich.layout import Layout
from rich.live import Live

from ..._client.errors import StreamRefused, StreamUnavailable
from .commands import Command, Post, Quit, Watch
from .keys import read_keys, single_keys
from .model import Model
from .session import ActionRefused, ConsoleSession
from .view import render, render_all, render_foot

_PRINTED_WIDTH = 120  # where there is no terminal
_PATIENCE = 10.0  # seconds that may pass without a snapshot when one is to be printed


@final
class TopScreen:
    """Shows a console on a terminal until the user quits."""

    def __init__(self, session: ConsoleSession, console: Console) -> None:
        self._session = session
        session.report = self._note
        self._console = console
        self._model = Model()
        self._layout = Layout()
        self._layout.split_column(Layout(name="body"), Layout(name="foot", size=1))
        self._live = Live(self._layout, console=console, screen=True, auto_refresh=False)
        self._watching = trio.CancelScope()
        self._timing = trio.CancelScope()
        self._failure: StreamRefused | None = None

    async def run(self) -> None:
        """Run until the user quits.

        Raises:
            StreamRefused: the server refuses the connection.
        """
        keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        with nullcontext() if keys is None else single_keys(keys), self._live:
            self._draw()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow, nursery)
                nursery.start_soon(self._show_silence)
                if keys is not None:
                    nursery.start_soon(self._read_keys, keys, nursery)
        if self._failure is not None:
            raise self._failure

    def _draw(self) -> None:
        self._layout["body"].update(render(self._model, self._console))
        self._layout["foot"].update(render_foot(self._model))
        self._live.refresh()

    async def _follow(self, nursery: trio.Nursery) -> None:
        try:
            async with aclosing(self._session.snapshots()) as snapshots:
                async for kind, data in snapshots:
                    self._model.receive(kind, data)
                    self._draw()
        except StreamRefused as error:
            self._failure = error
            nursery.cancel_scope.cancel()
        self._timing.cancel()

    async def _show_silence(self) -> None:
        with self._timing:
            while True:
                await trio.sleep(1)
                if self._model.silence is not None:
                    self._draw()

    def _note(self, status: str) -> None:
        self._model.status = status
        self._draw()

    async def _read_keys(self, descriptor: int, nursery: trio.Nursery) -> None:
        async for key in read_keys(descriptor):
            command = self._model.press(key)
            if isinstance(command, Quit):
                nursery.cancel_scope.cancel()
            elif command is not None:
                nursery.start_soon(self._do, command)
            self._draw()

    async def _do(self, command: Command) -> None:
        try:
            match command:
                case Post():
                    await self._session.post(command.path, command.body)
                    self._model.message = command.done
                case Watch():
                    await self._watch(command.topic)
                case Quit():
                    pass
        except ActionRefused as error:
            self._model.message = f"Not done: {error}"
        self._draw()

    async def _watch(self, topic: str | None) -> None:
        self._watching.cancel()
        if topic is None:
            return
        with trio.CancelScope() as self._watching:
            async with aclosing(self._session.watch(topic)) as events:
                async for kind, data in events:
                    self._model.receive_watched(kind, data)
                    self._draw()


def open_console(width: int | None = None, height: int | None = None) -> Console:
    """Return Rich's console of standard output, on which what the terminal cannot show is a question mark."""
    encoding = sys.stdout.encoding
    file = open(sys.stdout.fileno(), "w", encoding=encoding, errors="replace", closefd=False)  # noqa: SIM115
    return Console(file=file, width=width, height=height)


async def print_once(session: ConsoleSession, *, as_json: bool) -> None:
    """Print a snapshot, all of it. Rates need two, of which the second comes after a second.

    Raises:
        StreamRefused: the server refuses the connection.
        StreamUnavailable: the server cannot be reached, or does not answer.
    """
    model = Model()
    taken = 0
    with trio.move_on_after(_PATIENCE) as waiting:
        async with aclosing(session.snapshots(reconnect=False)) as snapshots:
            async for kind, data in snapshots:
                model.receive(kind, data)
                taken += kind == "snapshot"
                if taken == 2 or (taken and (data["sample"] or {}).get("events_rate") is not None):
                    break
                waiting.deadline = trio.current_time() + max(_PATIENCE, 3 * model.interval)
    if waiting.cancelled_caught:
        raise StreamUnavailable("the server does not answer")
    if model.snapshot is None:
        raise StreamUnavailable("the server has ended the stream")
    if as_json:
        print(json.dumps(model.snapshot))
        return
    width = None if sys.stdout.isatty() else _PRINTED_WIDTH
    console = open_console(width)
    console.print(render_all(model, console))
