"""Async generators that user code leaves while they are inside a nursery.

A generator that opens a nursery, or a task group, and yields inside it must be closed by the task that
iterates it. `break` out of `async for` does not close it, nor does an exception in the loop's body. Trio then
closes it in another task, which cannot end the nursery, and ends the whole run when the first task returns.
So the tasks that call user code close such generators themselves, before they do anything else.

Python says by two hooks when a generator is first iterated, and when one that has not ended is dropped (see
`sys.set_asyncgen_hooks`). Trio has set them; ours call Trio's. A generator that is dropped inside a nursery
which was opened since it began is kept for the task that began it.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from types import AsyncGeneratorType
from typing import Any, TypeVar, final
from weakref import WeakKeyDictionary, WeakSet, ref

import trio

from ._groups import split
from ._logger import get_logger

T = TypeVar("T")

Generator = AsyncGeneratorType[Any, Any]

logger = get_logger("trio_sse.server")

# Those that have ended leave a note until the next ones begin; so many are kept.
_MAX_NOTES = 100


def count_open_nurseries() -> int:
    """Return how many nurseries the current task has open; see `has_left_open`."""
    return len(trio.lowlevel.current_task().child_nurseries)


def has_left_open(nurseries: int) -> bool:
    """Return whether user code has left more nurseries open, or generators that wait to be closed."""
    task, watch = trio.lowlevel.current_task(), _current.get(None)
    return len(task.child_nurseries) > nurseries or (watch is not None and watch.has_dropped(task))


async def closing_generators(call: Awaitable[T]) -> T:
    """Wait for a call of user code, and close the generators that it leaves inside a nursery.

    The task may be one that no `GeneratorWatch` knows by its nursery.
    """
    task = trio.lowlevel.current_task()
    nurseries, watch = len(task.child_nurseries), _current.get(None)
    is_first = watch is not None and task not in watch.tasks
    if watch is not None:
        watch.tasks.add(task)
    try:
        return await call
    finally:
        try:
            if has_left_open(nurseries):
                await close_left_open(nurseries)
        finally:
            if watch is not None and is_first:
                watch.tasks.discard(task)


async def close_left_open(nurseries: int) -> None:
    """Close the generators of this task that have left more than so many nurseries open, the newest first.

    Trio closes what else was dropped. It raises what the generators raise, the last of them.
    """
    watch = _current.get(None)
    if watch is not None:
        await watch.close_left_open(trio.lowlevel.current_task(), nurseries)


@contextmanager
def watching_generators() -> Iterator[None]:
    """Watch the async generators of this run meanwhile; several may do so at once."""
    watch = _current.get(None)
    if watch is None:
        watch = GeneratorWatch()
        _current.set(watch)
    watch.begin()
    try:
        yield
    finally:
        watch.end()


def close_generators_of(nursery: trio.Nursery) -> None:
    """Let tasks of this nursery close what they leave open: each of them calls `close_left_open`."""
    watch = _current.get(None)
    if watch is not None:
        watch.nurseries.add(nursery)


@final
class GeneratorWatch:
    """What is known about the async generators of one Trio run.

    Attributes:
        nurseries, tasks: whose tasks, and which ones, close what they leave open.
    """

    def __init__(self) -> None:
        self.nurseries: WeakSet[trio.Nursery] = WeakSet()
        self.tasks: WeakSet[trio.lowlevel.Task] = WeakSet()
        self._users = 0
        self._begun: dict[int, _Begun] = {}
        self._gone: dict[int, _Begun] = {}  # by the same numbers: Python clears the reference first
        self._dropped: WeakKeyDictionary[trio.lowlevel.Task, dict[int, Generator]] = WeakKeyDictionary()
        self._number = 0
        self._previous = sys.get_asyncgen_hooks()
        self._note_gone = self._on_gone  # bound once: each generator calls it
        self._hooks: tuple[Any, Any] = (self._on_first_iteration, self._on_drop)

    def begin(self) -> None:
        """Set the hooks, if this is the first user."""
        self._users += 1
        if self._users == 1:
            self._previous = sys.get_asyncgen_hooks()
            sys.set_asyncgen_hooks(*self._hooks)

    def end(self) -> None:
        """Take them back after the last one, unless somebody else has set others since."""
        self._users -= 1
        if self._users == 0 and tuple(sys.get_asyncgen_hooks()) == self._hooks:
            sys.set_asyncgen_hooks(*self._previous)

    @trio.lowlevel.enable_ki_protection
    def _on_first_iteration(self, generator: Generator) -> None:
        if self._previous.firstiter is not None:
            self._previous.firstiter(generator)
        key = id(generator)
        self._gone.pop(key, None)  # of an earlier one
        try:
            task = trio.lowlevel.current_task()
        except RuntimeError:
            return  # it runs outside of Trio
        if len(self._gone) > _MAX_NOTES:
            self._gone.clear()
        self._number += 1
        begun = self._begun[key] = _Begun(generator, self._note_gone)
        begun.key, begun.number, begun.task = key, self._number, ref(task)
        begun.nurseries = len(task.child_nurseries)

    def _on_gone(self, begun: _Begun) -> None:
        self._begun.pop(begun.key, None)
        self._gone[begun.key] = begun

    @trio.lowlevel.enable_ki_protection
    def _on_drop(self, generator: Generator) -> None:
        begun = self._begun.pop(id(generator), None) or self._gone.pop(id(generator), None)
        task = None if begun is None else begun.task()
        if (
            begun is not None
            and task is not None
            and len(task.child_nurseries) > begun.nurseries
            and (task in self.tasks or task.parent_nursery in self.nurseries)
        ):
            self._dropped.setdefault(task, {})[begun.number] = generator
        elif self._previous.finalizer is not None:
            self._previous.finalizer(generator)

    def has_dropped(self, task: trio.lowlevel.Task) -> bool:
        """Return whether generators of a task that were dropped wait to be closed."""
        return bool(self._dropped) and task in self._dropped

    async def close_left_open(self, task: trio.lowlevel.Task, nurseries: int) -> None:
        """Close the generators of a task, the current one; see the function of this name."""
        failure: BaseException | None = None
        tried: set[int] = set()
        while len(task.child_nurseries) > nurseries:
            number, generator = self._newest(task, tried)
            if generator is None:
                break
            tried.add(number)
            logger.warning(
                "the async generator %s was left inside a nursery, and is closed: it should not yield there; "
                "see trio.as_safe_channel",
                generator.__qualname__,
            )
            try:
                await generator.aclose()
            except BaseException as error:
                failure = split(error, GeneratorExit)[1] or failure  # which a nursery raises in a group
        for generator in self._dropped.pop(task, {}).values():
            if self._previous.finalizer is not None:
                self._previous.finalizer(generator)
        if failure is not None:
            raise failure

    def _newest(self, task: trio.lowlevel.Task, tried: set[int]) -> tuple[int, Generator | None]:
        """Return the newest generator that a task has left, and its number, but for those that were tried."""
        found: tuple[int, Generator | None] = (0, None)
        for begun in list(self._begun.values()):
            generator = begun()
            if (
                begun.number > found[0]
                and begun.number not in tried
                and begun.task() is task
                and generator is not None
                and _is_suspended(generator)
            ):
                found = begun.number, generator
        dropped = self._dropped.get(task, {})
        newest = max(dropped, default=0)
        return (newest, dropped.pop(newest)) if newest > found[0] else found


class _Begun(ref[Generator]):
    """A reference to a generator, with the task that began it, and that task's open nurseries at the time."""

    __slots__ = ("key", "number", "nurseries", "task")

    key: int
    number: int
    nurseries: int
    task: ref[trio.lowlevel.Task]


def _is_suspended(generator: Generator) -> bool:
    return generator.ag_frame is not None and not generator.ag_running


_current: trio.lowlevel.RunVar[GeneratorWatch | None] = trio.lowlevel.RunVar("trio_sse generators")
