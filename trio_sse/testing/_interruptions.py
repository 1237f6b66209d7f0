"""Interrupting a route at each step of its server: a fault in a clean-up shows only at one of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import Enum
from functools import partial
from typing import TypeVar, final

import trio

from .._asgi.types import ASGIApp
from .._server.server import Server
from ._client import Client, served_by
from ._leaks import no_leak, registrations
from ._served import ServedInMemory

App = TypeVar("App", bound=Server | ASGIApp)


@final
class Interruption(Enum):
    """What happens to a stream at some step."""

    DISCONNECT = "disconnect"
    """The client closes the connection."""

    RESET = "reset"
    """The client breaks the connection."""

    FAULT = "fault"
    """The server's next operation on the connection raises `OSError`."""

    SHORT_WRITE = "short write"
    """The server's next write sends a part, and raises `OSError`, as everything after it."""

    END = "end"
    """The server ends its streams, as `Server.close_connections` does."""

    DRAIN = "drain"
    """The server shuts down gracefully."""

    SERVER = "server"
    """The server is cancelled, with its app and its hub, and served again."""

    CANCEL = "cancel"
    """The whole run is cancelled."""


async def interrupt_everywhere(
    make_app: Callable[[], App],
    script: Callable[[Client], Awaitable[object]],
    *,
    check: Callable[[App], object] | None = None,
    interruptions: Iterable[Interruption] = tuple(Interruption),
    at: int | Iterable[int] | None = None,
    within: float = 60.0,
    most: int = 10_000,
) -> dict[Interruption, int]:
    """Run a script against an app, interrupted at each step of the server's tasks, one after the other.

    Each run has an app of its own. After the interruption, the script may fail. If the server goes on, the
    script is run again, uninterrupted, and must succeed. At the end, nothing may be left: no task,
    descriptor, open stream or subscription. Then `check` is called.

    Use it with a mock clock (pytest-trio's `autojump_clock`), so that waiting takes no time.

    Args:
        make_app: returns a new `Server` or ASGI app.
        script: what a client does; it must end by itself.
        check: is called with the app after each run, when everything has ended, and raises if something of
            yours is left.
        interruptions: those to try; all by default.
        at: the only step to interrupt at, or several, with a run for each; all steps by default. Trio runs
            tasks in an order that it draws at random, so the number that a note names is only near: to repeat
            a failure, try that step and its neighbours many times, as in `at=[3, 4, 5] * 20`.
        within: seconds of Trio's clock that an interrupted script may take before it is cancelled. They bound
            the script, not a clean-up that is shielded from cancellation.
        most: the number of steps after which the script counts as endless.

    Returns:
        how many runs each interruption has interrupted: one for each step, or for each in `at` that the run
        has reached.

    Raises:
        ValueError: `at` has no step, or one that is not a positive integer, or no run has reached its step.
        AssertionError: something is left, or the script has more steps than `most`. A note says at which
            step, and by what, the run was interrupted.
        Exception: what `check` or an uninterrupted script has raised, with the same note.
    """
    steps = None if at is None else _checked(at)
    return {
        kind: await _at_steps(kind, steps, make_app, script, check, within, most) for kind in interruptions
    }


def _checked(at: int | Iterable[int]) -> Sequence[int]:
    steps = tuple(at) if isinstance(at, Iterable) else (at,)
    if not steps or not all(isinstance(step, int) and step >= 1 for step in steps):
        raise ValueError(f"at must be a positive integer or several, not {at!r}")
    return steps


async def _at_steps(
    kind: Interruption,
    steps: Sequence[int] | None,
    make_app: Callable[[], App],
    script: Callable[[Client], Awaitable[object]],
    check: Callable[[App], object] | None,
    within: float,
    most: int,
) -> int:
    """Return how many runs were interrupted; without steps, at each until a run ends before."""
    interrupted = 0
    longest = 0
    for number in range(1, most + 1) if steps is None else steps:
        run = _Run(kind, number, within, most)
        app = make_app()
        try:
            await run.run(app, script)
            if check is not None:
                check(app)
        except BaseException as error:
            if run.has_happened:
                error.add_note(
                    f"interrupted by {kind.value} at step {number} of the server's tasks"
                    " (in another run, the same moment may be at a step nearby)"
                )
            raise
        if run.has_happened:
            interrupted += 1
        elif steps is None:
            return interrupted
        else:
            longest = max(longest, run.steps)
    assert steps is not None, f"the script has more than {most} steps"
    if not interrupted:
        raise ValueError(f"nothing was interrupted by {kind.value}: the script had only {longest} steps")
    return interrupted


@final
class _Run(trio.abc.Instrument):
    """One run of a script, which is interrupted at one step."""

    def __init__(self, kind: Interruption, number: int, within: float, most: int) -> None:
        self.has_happened = False
        self.steps = 0  # of the server's tasks, while a script runs
        self._kind = kind
        self._number = number
        self._within = within
        self._most = most
        self._is_in_script = False
        self._served: ServedInMemory
        self._scope = trio.CancelScope()  # of everything, to be cancelled by the interruption
        self._limit = trio.CancelScope()  # of scripts that are endless

    async def run(self, app: Server | ASGIApp, script: Callable[[Client], Awaitable[object]]) -> None:
        client = Client(app)
        self._served = served_by(client)
        trio.lowlevel.add_instrument(self)
        try:
            async with no_leak():
                with self._scope:
                    async with client:
                        with self._limit:
                            self._is_in_script = True
                            await self._run_scripts(client, script)
                        self._is_in_script = False
        finally:
            trio.lowlevel.remove_instrument(self)
        assert not self._limit.cancelled_caught, f"the script has more than {self._most} steps"
        left = registrations(client.server)
        assert not left, "the run has left " + ", ".join(left)

    async def _run_scripts(self, client: Client, script: Callable[[Client], Awaitable[object]]) -> None:
        try:
            with trio.move_on_after(self._within):
                await script(client)
        except Exception:  # it may well fail by the interruption, in any way
            if not self.has_happened:
                raise
        if not self.has_happened or self._kind is Interruption.DRAIN:
            return
        if self._kind is Interruption.SERVER:
            await self._served.serve_again()
        await script(client)

    def _interrupt(self) -> None:
        happen: dict[Interruption, Callable[[], None]] = {
            Interruption.DISCONNECT: self._served.close_clients,
            Interruption.RESET: self._served.reset_clients,
            Interruption.FAULT: self._served.fail_connections,
            Interruption.SHORT_WRITE: partial(self._served.fail_connections, is_short=True),
            Interruption.END: self._served.end_streams,
            Interruption.DRAIN: self._served.drain,
            Interruption.SERVER: self._served.cancel,
            Interruption.CANCEL: self._scope.cancel,
        }
        happen[self._kind]()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if not (self._is_in_script and self._is_servers(task)):
            return
        self.steps += 1
        if self.steps == self._number:
            self.has_happened = True
            self._interrupt()
        elif self.steps == self._number + 2 * self._most:
            self._limit.cancel()

    def _is_servers(self, task: trio.lowlevel.Task) -> bool:
        """Whether it is the server's task or one below it, and not the script's."""
        looked_at: trio.lowlevel.Task | None = task
        while looked_at is not None and looked_at is not self._served.task:
            nursery = looked_at.parent_nursery
            looked_at = None if nursery is None else nursery.parent_task
        return looked_at is not None
