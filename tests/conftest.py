"""Fixtures of all tests: servers and hubs that are checked for leaks, and TLS contexts."""

from __future__ import annotations

import gc
import itertools
import logging
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import hypothesis
import pytest
import trio.testing

from trio_sse import Hub, Server
from trio_sse._logging.repeats import RepeatLimit

from .support import serving as serving_module
from .support.certificates import AUTHORITY, Certificate, Contexts, make_contexts
from .support.hangs import say_at_timeout
from .support.leaks import (
    CAN_LIST_DESCRIPTORS,
    LeakCheck,
    MakeHub,
    MakeServer,
    living_tasks,
    open_descriptors,
)
from .support.programs import serving
from .support.requirements import count_skipped, is_in_need
from .support.serving import InMemory, in_memory

# No deadlines: a busy machine is no failure. A run is the same each time; `--hypothesis-profile random` looks
# for what no run has found.
hypothesis.settings.register_profile("random", deadline=None)
hypothesis.settings.register_profile("same", deadline=None, derandomize=True, print_blob=True)
# The first of the same examples, for `make test-unit`; `support/shares.py` keeps to the share.
hypothesis.settings.register_profile("quick", parent=hypothesis.settings.get_profile("same"), max_examples=30)
hypothesis.settings.load_profile("same")

# For the programs, too, which inherit it; those that install packages trust the system's authorities.
if "TRIO_SSE_ARTEFACTS" not in os.environ:
    os.environ["SSL_CERT_FILE"] = str(AUTHORITY)


def pytest_sessionstart() -> None:
    """End at SIGTERM as at Ctrl-C, so that the programs of tests end, too."""

    def interrupt(number: int, frame: object) -> None:
        if callable(signal.getsignal(signal.SIGINT)):
            signal.raise_signal(signal.SIGINT)
        else:  # it is ignored, as in the background of a shell
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage while test modules are imported: what they make stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Keep what was imported out of the collections that tests make: they take 1 ms instead of 40.

    Those that the interpreter makes are rarer: `no_leak` collects what each test has left.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


_files_done = itertools.count(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """Keep out of them, too, what some files' tests leave: imports and caches, above all Hypothesis's."""
    result = yield
    logging.raiseExceptions = True  # the program's commands, run within this process, set it
    if nextitem is None or (nextitem.path != item.path and next(_files_done) % 4 == 0):
        _keep_out_of_collections()
    return result


def _keep_out_of_collections() -> None:
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_timeout_set_timer() -> Generator[None, object, object]:
    """Say what the tasks of a test wait for when it hangs: pytest-timeout knows only threads."""
    result = yield
    if hasattr(signal, "SIGALRM"):
        say_at_timeout()
    return result


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return what `-n auto` is: four for each core, as tests of other programs wait.

    Each worker imports all tests, which takes two seconds. In CI it is two for each core: there, the
    measuring of coverage keeps them busy. Without tests of other programs it is three for two cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for_each = 2 if os.environ.get("CI") else 4
    leaves_out_integration = re.match(r"not \(?integration", config.option.markexpr)
    return (3 * cores + 1) // 2 if leaves_out_integration else max(min(for_each * cores, 16), cores)


# It takes minutes and the package index: `make test-artefacts` runs it.
collect_ignore = [] if "TRIO_SSE_ARTEFACTS" in os.environ else ["project/test_artefacts.py"]

# Firefox takes 300 MB and ten seconds: it is tested where this names its program.
collect_ignore += [] if "TRIO_SSE_FIREFOX" in os.environ else ["browser/test_firefox.py"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what uses `protocol` over both versions of HTTP, unless it is about the first alone."""
    if "protocol" in metafunc.fixturenames:
        is_of_http1 = any(metafunc.definition.iter_markers("http1_only"))
        metafunc.parametrize("protocol", ["http1"] if is_of_http1 else ["http1", "http2"], indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a program, by its fixtures or because it says so; put `site` first."""
    for item in items:
        if is_in_need(item) or {"streams", "browser"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("integration")
    items.sort(key=lambda item: "site" not in item.keywords)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say loudly, at the end, what was not tested, and how to have it tested."""
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    counts = count_skipped([str(report.longrepr) for report in skipped])
    if counts or not CAN_LIST_DESCRIPTORS:
        terminalreporter.section("NOT TESTED", sep="!", red=True, bold=True)
    for program, count in counts.items():
        terminalreporter.line(f"{program} is missing: {count} tests were skipped", red=True)
    if counts:
        terminalreporter.line(
            "To install: sh .ci/install-system-packages, as root, where there is apt; or by hand"
        )
    if not CAN_LIST_DESCRIPTORS:
        terminalreporter.line(
            "No test looks for file descriptors that are left open: no /proc/self/fd", red=True
        )


@pytest.fixture(scope="session", autouse=True)
def every_line_is_logged() -> Iterator[None]:
    """Let no log lines be left out because other tests or cases have logged the same."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("trio_sse._logger._repeats", RepeatLimit(most=1_000_000))
        yield


@pytest.fixture
async def no_leak() -> AsyncIterator[LeakCheck]:
    """Check at the end that tasks, descriptors and registrations are back at their baseline.

    Whatever the test starts must have ended when its function returns.
    """
    check = LeakCheck()
    gc.collect(1)  # what the test before has left; older objects wait for `_keep_out_of_collections`
    await trio.testing.wait_all_tasks_blocked()
    tasks = living_tasks()
    descriptors = open_descriptors()
    yield check
    await trio.testing.wait_all_tasks_blocked()
    assert not living_tasks() - tasks, "tasks are left"
    left = {name: what for name, what in open_descriptors().items() if descriptors.get(name) != what}
    assert not left, "descriptors are left"
    check.check_registrations()


@pytest.fixture(scope="session")
def contexts() -> Contexts:
    """Return TLS contexts of a server and its clients."""
    return make_contexts()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Return a certificate for `localhost` and 127.0.0.1, as files."""
    return Certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def streams() -> Iterator[str]:
    """Return the URL of a server in its own process; the tests that share it must not change it."""
    with serving("tests.support.apps.streams:server") as (_, url):
        yield url


@pytest.fixture
def quick_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hypercorn not wait for last clients when it shuts down: the test has none."""
    monkeypatch.setattr("trio_sse.hypercorn._REQUEST_SECONDS", 0.02)


@pytest.fixture
def clock() -> trio.testing.MockClock:
    """Return a clock whose rate a test raises when it has connected: handshakes have deadlines, too."""
    return trio.testing.MockClock(rate=1)


@pytest.fixture
def make_server(no_leak: LeakCheck) -> MakeServer:
    """Make servers that are checked for leaks at the end; the options are `Server`'s."""

    def make(**options: object) -> Server:
        return no_leak.watch(Server(**options))  # type: ignore[arg-type]  # the test gives the right ones

    return make


@pytest.fixture
def make_hub(no_leak: LeakCheck) -> MakeHub:
    """Make hubs that are checked for leaks at the end; the options are `Hub`'s."""

    def make(**options: object) -> Hub:
        return no_leak.watch_hub(Hub(**options))  # type: ignore[arg-type]  # the test gives the right ones

    return make


@pytest.fixture
def serve(no_leak: LeakCheck) -> Callable[..., Any]:
    """Serve an app over memory streams."""

    @asynccontextmanager
    async def serving(app: Any, **options: Any) -> AsyncIterator[InMemory]:
        async with in_memory(no_leak.watch(Server(app, **options))) as running:
            yield running

    return serving


@pytest.fixture
def protocol(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have the test's clients speak HTTP/1.1, and then HTTP/2, with what they send and expect translated.

    It is the version, as in a scope.
    """
    if request.param == "http2":
        monkeypatch.setattr(serving_module, "over_http2", True)
        defaults = Server.__init__.__kwdefaults__
        assert defaults is not None
        monkeypatch.setitem(defaults, "http2_cleartext", True)
    return "2" if request.param == "http2" else "1.1"
