"""One case: a scenario on a host, interrupted once, and what is left afterwards."""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import h2.exceptions
import trio
import trio.testing

from trio_sse import Hub, LogUnavailable

from ..support.certificates import Certificate
from ..support.leaks import living_tasks, open_descriptors
from ..support.waiting import SECONDS
from .hosts import HOSTS, Host
from .logs import OF_PROCESS, Logs
from .output import faults_of
from .places import ENDS_SERVER, OF_STEPS, Place, Steps, Trigger
from .running import Running, running
from .scenario import SCENARIOS, Scenario, Visitor
from .scheduling import seed_scheduler
from .site import Site
from .world import Injected, InjectedPanic, World

#: How long a visit may take on Trio's clock.
VISIT_SECONDS = 300.0

#: Exceptions that may be logged when something was interrupted.
_EXPECTED = (
    *(Injected, InjectedPanic, OSError, LogUnavailable),
    *(trio.BrokenResourceError, trio.ClosedResourceError),
)

# Tasks that begin when they are needed first: of a Redis client's pool, and of a hub's runs.
_MAY_STAY = re.compile(r"coredis\.|trio_sse\._runs\.(keeping|signals|taking_over|replicas|node)\.")

# Messages of errors that follow from an interruption: of a call of a hub that has ended, and of Starlette's
# middleware, if the app ends without a response since its client has disconnected.
_CONSEQUENCES = re.compile("the hub of these runs does not run|No response returned")


@dataclass(frozen=True)
class Case:
    """What is interrupted, where and when.

    Attributes:
        number: at the how manyth step, operation or call.
        seed: of Trio's choices; with `is_shuffled`, also of further turns in streams and handlers.
    """

    scenario: str
    host: str
    log: str
    place: Place
    number: int
    seed: int = 0
    is_shuffled: bool = False

    def __str__(self) -> str:
        shuffled = "~" if self.is_shuffled else ""
        name = self.scenario.replace(" ", "-")
        return f"{name}/{self.host}/{self.log}/{self.place.value}/{self.number}/{self.seed}{shuffled}"

    @property
    def is_virtual(self) -> bool:
        """Whether nothing outside of Trio takes part, so that its clock may jump."""
        return HOSTS[self.host].is_in_memory and self.log in OF_PROCESS

    def make_clock(self) -> trio.testing.MockClock | None:
        """Return a clock that jumps when nothing happens, if nothing outside of this process takes part.

        What is written to a socket can be read from its other end at once, so the clock waits a moment only
        for a kernel that is late.
        """
        if self.log not in OF_PROCESS:
            return None
        return trio.testing.MockClock(autojump_threshold=0 if HOSTS[self.host].is_in_memory else 0.05)

    @classmethod
    def parse(cls, text: str) -> Case:
        """Return the case of a name."""
        name, host, log, place, number, seed = text.split("/")
        return cls(
            name.replace("-", " "),
            host,
            log,
            Place(place),
            int(number),
            int(seed.rstrip("~")),
            seed.endswith("~"),
        )


@dataclass(frozen=True)
class Resources:
    """What cases share, since it takes long to make."""

    certificate: Certificate
    logs: Logs


class CaseFailed(AssertionError):
    """What a case has left, or done wrong."""


def run_case(case: Case, resources: Resources, *, records: bool = False) -> Trigger:
    """Run a case; return its trigger, which says whether there were as many steps, and where if it `records`.

    Raises:
        CaseFailed: something is left, or was wrong.
    """
    scenario, host = SCENARIOS[case.scenario], HOSTS[case.host]
    seed_scheduler(case.seed)
    trigger = Trigger(case.place, case.number, records=records)
    clock = case.make_clock()
    options: dict[str, Any] = {} if clock is None else {"clock": clock}
    try:
        with _noticed() as faults:
            trio.run(_run, case, scenario, host, resources, trigger, faults, **options)
        if faults:
            raise CaseFailed("; ".join(dict.fromkeys(faults)))
    except BaseException as error:
        failed = [leaf for leaf in leaves_of(error) if isinstance(leaf, CaseFailed)]
        error = failed[0] if failed else error
        error.add_note(f"the case is {case}")
        raise error from None
    finally:
        resources.logs.forget()
    return trigger


async def _run(
    case: Case,
    scenario: Scenario,
    host: Host,
    resources: Resources,
    trigger: Trigger,
    faults: list[str],
) -> None:
    log = resources.logs.make(case.log, trigger)
    world = World(log, trigger, case.seed if case.is_shuffled else None, **scenario.hub)
    world.faults = faults
    site = Site(host, scenario, world, resources.certificate)
    tasks, descriptors = living_tasks(), open_descriptors()
    with trio.fail_after(100 * SECONDS if host.is_in_memory else VISIT_SECONDS + 2 * SECONDS):
        await _visit_interrupted(case, scenario, site)
        if case.place in ENDS_SERVER and trigger.has_happened:
            await _visit_again(scenario, site)
    await trio.testing.wait_all_tasks_blocked()
    if left := living_tasks() - tasks:
        faults.append(f"tasks are left: {[task.name for task in left]}")
    if open_descriptors() != descriptors:
        faults.append(f"descriptors are left: {open_descriptors()}, and there were {descriptors}")
    if left_over := site.leftovers():
        faults.append(f"at the end, there are {left_over}")
    if world.opened != world.ended:
        faults.append(
            f"{world.opened} streams have passed on_connect, and on_disconnect was called {world.ended} times"
        )


async def _visit_interrupted(case: Case, scenario: Scenario, site: Site) -> None:
    trigger = site.world.trigger
    serving: Running
    steps = Steps(trigger, lambda: serving.interrupt(case.place))
    is_of_steps = case.place in OF_STEPS
    if is_of_steps:
        trio.lowlevel.add_instrument(steps)
    try:
        async with running(site, steps) as serving:
            await trio.testing.wait_all_tasks_blocked()
            tasks = _names_of_tasks()
            try:
                trigger.is_armed = True
                with trio.move_on_after(VISIT_SECONDS) as limit:
                    await scenario.visit(Visitor(serving))
                if limit.cancelled_caught:
                    raise CaseFailed("the visit does not end")
            except BaseException as failure:
                _check_failure(failure, trigger)
            trigger.is_armed = False
            if not (trigger.has_happened and case.place in ENDS_SERVER):
                await serving.start_hub_again()
                await _expect_nothing(serving, tasks, "after the interruption")
                await _read_all(site.world.hub)
                await scenario.visit(Visitor(serving))
                await _expect_nothing(serving, tasks, "after the next visit")
            elif case.place is not Place.RUN:
                await serving.ended.wait()
        _check_output(serving)
    finally:
        if is_of_steps:
            trio.lowlevel.remove_instrument(steps)


async def _visit_again(scenario: Scenario, site: Site) -> None:
    """Serve the site once more, and visit it."""
    async with running(site) as serving:
        await _read_all(site.world.hub)
        await scenario.visit(Visitor(serving))
    _check_output(serving)


def _check_failure(failure: BaseException, trigger: Trigger) -> None:
    """Let a visit fail that was interrupted, unless what it has received was wrong."""
    leaves = leaves_of(failure)
    if any(isinstance(leaf, CaseFailed) for leaf in leaves):
        raise failure
    if not trigger.has_happened or any(isinstance(leaf, trio.Cancelled) for leaf in leaves):
        raise failure
    if isinstance(failure, KeyboardInterrupt):
        raise failure
    for leaf in leaves:
        if isinstance(leaf, h2.exceptions.ProtocolError):
            raise CaseFailed(f"HTTP/2 was broken: {leaf!r}") from leaf


async def _expect_nothing(serving: Running, tasks: Counter[str], when: str) -> None:
    """Wait until no stream, connection or task is left; say what is, if that takes too long."""

    def leftovers() -> list[str]:
        left = [*serving.site.leftovers(), *serving.open_ends()]
        left += [f"{count()} {what}" for what, count in serving.world.remaining.items() if count()]
        return left + [f"the task {name}" for name in _names_of_tasks() - tasks]

    deadline, pause = trio.current_time() + 2 * SECONDS, 0.001
    while left := leftovers():
        if trio.current_time() > deadline:
            raise CaseFailed(f"{when}, there are {left}")
        await trio.sleep(pause)
        pause = min(2 * pause, 0.5)


async def _read_all(hub: Hub) -> None:
    """Wait until a hub has read what was stored in its log: a new subscription would receive it."""
    async with hub.subscribe("barrier") as events:
        await hub.publish("barrier", "")
        await anext(aiter(events))


def _names_of_tasks() -> Counter[str]:
    """Return the names of all tasks: a hub that is run again has other tasks of the same names."""
    return Counter(task.name for task in living_tasks() if not _MAY_STAY.match(task.name))


def _check_output(serving: Running) -> None:
    for end in serving.clients:
        serving.world.faults += faults_of(end, is_consecutive=True)


def leaves_of(error: BaseException) -> list[BaseException]:
    """Return the exceptions of a group, or the exception if it is none."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in leaves_of(one)]
    if isinstance(error.__cause__, InjectedPanic):  # wrapped in an `Exception`, for frameworks
        return [error.__cause__]
    return [error]


# What is noticed beside a run


class _Noticing(logging.Handler):
    """Keeps the errors that are logged and that nobody has injected."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return
        for leaf in leaves_of(error):
            if not isinstance(leaf, _EXPECTED) and not _CONSEQUENCES.match(str(leaf)):
                self._faults.append(f"{record.name} logs {record.getMessage()!r}: {leaf!r}")


@contextmanager
def _noticed() -> Iterator[list[str]]:
    """Return a list of what is logged, or raised where nobody catches it."""
    faults: list[str] = []
    handler = _Noticing(faults)
    logger = logging.getLogger("trio_sse")
    logger.addHandler(handler)
    original: Callable[[Any], object] = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: faults.append(f"nobody catches {unraisable.exc_value!r}")
    try:
        yield faults
    finally:
        sys.unraisablehook = original
        logger.removeHandler(handler)
