"""Nothing published is silently lost: the rule of delivery, on every transport and log, driven at random."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import hypothesis
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trio_sse import Hub, Overflow
from trio_sse.redis import RedisLog
from trio_sse.sqlite import SQLiteLog

from ..support.certificates import Contexts
from ..support.delivery.model import (
    IS_WHOLE,
    RUN_SECONDS,
    TOPICS,
    Cut,
    Kind,
    Model,
    Open,
    Publish,
    Read,
    Restart,
    Step,
    Transport,
)
from ..support.delivery.record import Resets
from ..support.logs import PATIENT
from ..support.redis_server import redis_server
from ..support.requirements import needs

#: How many random runs there are of each case; `make model` sets more, which are longer.
RUNS = int(os.environ.get("TRIO_SSE_MODEL_RUNS", "4"))

pytestmark = [pytest.mark.integration]
if not IS_WHOLE:  # a run that hangs ends by its own bound, and says what is missing; Hypothesis may repeat it
    pytestmark += [pytest.mark.timeout(4 * RUN_SECONDS)]

#: A step costs three to eight times as much on a shared log. Of the long runs, more are on the log in memory.
MEMORY_SHARE = 8 if IS_WHOLE else 1

MakeHub = Callable[[], Hub]

subsets = st.sets(st.sampled_from(TOPICS), min_size=1).map(lambda topics: "".join(sorted(topics)))
numbers = st.integers(0, 3)
sizes = st.sampled_from([1, 1, 300, 5000, 20_000])

kinds = st.builds(
    Kind,
    subsets,
    policy=st.sampled_from([Overflow.DISCONNECT] * 3 + list(Overflow)),
    interval=st.sampled_from([None, None, 0.02]),
)

any_step: st.SearchStrategy[Step] = st.one_of(
    st.builds(Publish, subsets, count=st.integers(1, 40), size=sizes, node=numbers),
    st.builds(Open, numbers, node=numbers),
    st.builds(Read, numbers, size=st.one_of(st.integers(1, 300), st.integers(1000, 20_000), st.just(65536))),
    st.builds(Cut, numbers),
)
restart = st.builds(Restart, node=numbers, drains=st.booleans())

#: Nearly half of a short run is its beginning and its end. Long ones fill queues and logs.
short = st.lists(any_step, min_size=10, max_size=40)
steps = st.one_of(short, st.lists(any_step, min_size=150, max_size=300)) if IS_WHOLE else short
restarting_steps = st.lists(st.one_of(any_step, any_step, restart), min_size=10, max_size=20)


@pytest.fixture(params=["memory", "sqlite", pytest.param("redis", marks=needs("redis-server"))])
def log(request: pytest.FixtureRequest) -> str:
    """The kind of log."""
    kind: str = request.param
    return kind


#: Makes the log of a run, which has a number, and returns what makes hubs on it.
MakeLog = Callable[[int, int], MakeHub]


@pytest.fixture
def make_log(log: str, tmp_path: Path) -> Iterator[MakeLog]:
    """Yield a function that makes the log of a run, with a bound in events."""
    with redis_server(tmp_path) as redis:
        if log == "redis":
            trio.run(redis.start)

        def make(number: int, events: int) -> MakeHub:
            if log == "memory":
                return lambda: Hub(history=events)
            if log == "sqlite":
                path = tmp_path / f"{number}.db"
                return lambda: Hub(history=events, log=SQLiteLog(path, max_events=events, **PATIENT))
            prefix = f"run-{number}"
            return lambda: Hub(
                history=events, log=RedisLog(redis.url, prefix=prefix, max_events=events, **PATIENT)
            )

        yield make


def check(
    transport: Transport,
    log: str,
    make_log: MakeLog,
    contexts: Contexts,
    steps: st.SearchStrategy[list[Step]],
    *,
    history: int = 10_000,
    resets: Resets = Resets.NEVER,
) -> None:
    """Drive clients of a transport through random steps, and check the rule for each."""
    runs = itertools.count()
    steps_done = 0

    @hypothesis.settings(
        max_examples=RUNS * (MEMORY_SHARE if log == "memory" else 1),
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @given(st.lists(kinds, min_size=2, max_size=4), steps)
    def run(asked: list[Kind], chosen: list[Step]) -> None:
        nonlocal steps_done
        model = Model(
            make_log(next(runs), history),
            transport,
            [Kind(kind.topics) for kind in asked] if transport == "websocket" else asked,
            nodes=1 if log == "memory" else 2,
            contexts=contexts,
            resets=resets,
        )

        async def drive() -> None:
            async with model.run():
                for number in range(len(asked) // 2):  # the others come later
                    await model.begin(number)
                for step in chosen:
                    await model.do(step)
                await model.finish()

        trio.run(drive)
        steps_done += model.steps_done

    run()
    print(f"{steps_done} steps")


#: On one log, all transports; on the others, one: a log does not know the transports.
some = pytest.mark.parametrize(
    ("log", "transport"),
    [
        ("memory", "stream"),
        ("memory", "poll"),
        ("memory", "websocket"),
        ("sqlite", "stream"),
        pytest.param("redis", "stream", marks=needs("redis-server")),
    ],
    indirect=["log"],
)


@pytest.mark.parametrize("transport", get_args(Transport))
def test_nothing_is_silently_lost(
    transport: Transport, log: str, make_log: MakeLog, contexts: Contexts
) -> None:
    check(transport, log, make_log, contexts, steps)


@some
def test_a_reset_says_that_something_is_missing(
    transport: Transport, log: str, make_log: MakeLog, contexts: Contexts
) -> None:
    # A cursor that is older than a shared log is answered with a reset, whatever its topics have lost.
    resets = Resets.FOR_GAPS if log == "memory" else Resets.ALWAYS
    check(transport, log, make_log, contexts, steps, history=40, resets=resets)


@some
def test_nothing_is_lost_when_nodes_restart(
    transport: Transport, log: str, make_log: MakeLog, contexts: Contexts
) -> None:
    resets = Resets.ALWAYS if log == "memory" else Resets.NEVER
    check(transport, log, make_log, contexts, restarting_steps, resets=resets)
