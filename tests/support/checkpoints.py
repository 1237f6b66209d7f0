"""Interrupting at every checkpoint: a fault in a hand-over shows only at one of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import final

import trio

Scenario = Callable[["Interruption"], Awaitable[None]]


@final
class Interruption(trio.abc.Instrument):
    """Calls a function at the k-th checkpoint of the tasks that are meant.

    Attributes:
        has_happened: whether there were this many checkpoints.
    """

    def __init__(self, number: int) -> None:
        self.has_happened = False
        self._left = number
        self._interrupt: Callable[[], None] | None = None
        self._is_meant: Callable[[trio.lowlevel.Task], bool] | None = None

    def begin(
        self, interrupt: Callable[[], None], is_meant: Callable[[trio.lowlevel.Task], bool] = lambda _: True
    ) -> None:
        """Count from now on, and then call `interrupt`, once."""
        self._interrupt = interrupt
        self._is_meant = is_meant
        trio.lowlevel.add_instrument(self)

    def end(self) -> None:
        """Count no further checkpoints."""
        if self._interrupt is not None:
            self._interrupt = None
            trio.lowlevel.remove_instrument(self)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        assert self._is_meant is not None
        if self.has_happened or not self._is_meant(task):
            return
        self._left -= 1
        if self._left == 0:
            self.has_happened = True
            assert self._interrupt is not None
            self._interrupt()


async def interrupt_at_each_checkpoint(scenario: Scenario, *, most: int = 1000) -> int:
    """Run a scenario again and again, interrupted at its k-th checkpoint, for every k; return how many.

    The scenario calls `begin` and `end` of what it gets, and fails if the interruption has left something.
    """
    for number in range(1, most):
        interruption = Interruption(number)
        try:
            await scenario(interruption)
        except BaseException as error:
            error.add_note(f"interrupted at checkpoint {number}")
            raise
        finally:
            interruption.end()
        if not interruption.has_happened:
            return number - 1
    raise AssertionError(f"the scenario has more than {most} checkpoints")
