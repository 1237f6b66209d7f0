"""One connection for all tabs of an origin: who leads, who takes over, and that each tab misses nothing."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ..support import http
from ..support.browser import profile, until, value_of
from ..support.ports import free_port
from ..support.programs import running
from ..support.requirements import needs
from ..support.waiting import SECONDS, until_blocking

pytestmark = [pytest.mark.integration, needs("chromium")]

FOLLOW = """([url, options]) => {
  window.got = [];
  window.topics = [];
  window.resets = 0;
  const follower = window.follower = TrioSSE.follow(url,
    {shared: true, patience: 2, firstDelay: 0.05, longestDelay: 0.2, streamAgain: 0.5, wait: 2, ...options});
  for (const type of ["message", "number"]) {
    follower.addEventListener(type, ({data, topic}) => { got.push(Number(data)); topics.push(topic ?? ""); });
  }
  follower.addEventListener("reset", () => { resets += 1; });
}"""

LEADS = (
    "async () => { const {held} = await navigator.locks.query(); return held.length && held[0].clientId; }"
)


@contextmanager
def serving(port: int = 0) -> Iterator[str]:
    with running([sys.executable, "-m", "tests.support.apps.follow", f"{port}"]) as program:
        yield program.stdout.expect(r"http://\S+")[0]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as url:
        yield url


class Tabs:
    """The tabs of one browser, and what was published to them."""

    def __init__(self, context: Any, url: str) -> None:
        self.url = url
        self.count = 0
        self.context = context
        self.errors: list[str] = []
        post(f"{url}/mode", "ok")

    def open(self, path: str = "/live", **options: object) -> Any:
        """Open a tab that follows, and wait until it does."""
        tab = self.open_early(path, **options)
        until(tab, "['streaming', 'polling'].includes(follower.status) && follower.lastEventId !== ''")
        return tab

    def open_early(self, path: str = "/live", **options: object) -> Any:
        """Open a tab that follows."""
        tab = self.context.new_page()
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.goto(self.url)
        tab.evaluate(FOLLOW, [path, options])
        return tab

    def publish(self, count: int = 3) -> None:
        first, self.count = self.count + 1, self.count + count
        post(f"{self.url}/publish", f"{first} {self.count}")

    def check(self, **first: Any) -> None:
        """Check that each tab has received all numbers from its first one on, each once."""
        for number, tab in first.items():
            expected = list(range(int(number.strip("_")), self.count + 1))
            until(tab, f"got.length >= {len(expected)}")
            assert tab.evaluate("got") == expected

    def until_streams(self, count: int) -> None:
        """Wait until the server has this many streams."""
        until_blocking(lambda: statistics(self.url) == count, state=lambda: (statistics(self.url), count))


@pytest.fixture
def tabs(browser: Any, url: str) -> Iterator[Tabs]:
    with profile(browser) as context:
        tabs = Tabs(context, url)
        yield tabs
    assert tabs.errors == []
    tabs.until_streams(0)


def post(url: str, body: str) -> None:
    http.post(url, content=body).raise_for_status()


def statistics(url: str) -> int:
    """Return how many streams the server has."""
    found: int = http.get(f"{url}/statistics").json()["streams"]
    return found


def crash(tab: Any) -> None:
    with pytest.raises(Exception, match="chrome://crash"):
        tab.goto("chrome://crash")


def close(tab: Any) -> None:
    tab.close()


@pytest.mark.parametrize("end", [close, crash], ids=["closed", "crashed"])
def test_another_tab_takes_over_when_the_first_ends(tabs: Tabs, end: Callable[[Any], None]) -> None:
    first = tabs.open()
    tabs.publish()
    second, third = tabs.open(), tabs.open()
    tabs.until_streams(1)
    tabs.publish()
    tabs.check(_1=first, _4=second, __4=third)
    end(first)
    tabs.publish()
    tabs.check(_4=second, __4=third)
    end(second)
    tabs.publish(20)
    tabs.check(_4=third)
    tabs.until_streams(1)


def test_a_tab_that_does_not_react_is_replaced(tabs: Tabs) -> None:
    first, second = tabs.open(), tabs.open()
    tabs.until_streams(1)
    debugger = tabs.context.new_cdp_session(first)
    debugger.send("Debugger.enable")
    debugger.send("Debugger.pause")  # before the next statement
    before = value_of(second, LEADS)
    tabs.publish()
    tabs.check(_1=second)
    assert value_of(second, LEADS) != before
    debugger.send("Debugger.resume")
    debugger.send("Debugger.disable")
    tabs.publish()
    tabs.check(_1=first, __1=second)
    tabs.until_streams(1)


def test_tabs_come_and_go_while_much_is_published(tabs: Tabs) -> None:
    opened = [tabs.open()]
    thread = threading.Thread(target=tabs.publish, args=(400,))
    thread.start()
    try:
        for _ in range(3):
            opened.append(tabs.open())
            opened.pop(0).close()
            opened.append(tabs.open())
            post(f"{tabs.url}/mode", "ok")  # the streams are cut
    finally:
        thread.join(SECONDS)
        assert not thread.is_alive(), "the server has not taken the numbers"
    tabs.publish()  # a slow machine may have opened the last tabs after the others
    for tab in opened:
        until(tab, f"got.at(-1) === {tabs.count}")
        numbers = tab.evaluate("got")
        assert numbers == list(range(numbers[0], tabs.count + 1))
    tabs.until_streams(1)


def test_a_late_tab_receives_what_it_has_missed_and_snapshots(tabs: Tabs) -> None:
    first = tabs.open("/topics?last_event_id=", topics=True)
    cursor = first.evaluate("follower.lastEventId")
    tabs.publish(2)
    post(f"{tabs.url}/say/other", "3")
    tabs.count = 3
    tabs.check(_1=first)
    late = tabs.open(f"/topics?last_event_id={cursor}", topics=True)
    later = tabs.open("/topics", topics=True, lastEventId=cursor)
    tabs.check(_1=late, __1=later)
    assert late.evaluate("topics") == first.evaluate("topics") == ["live", "live", "other"]
    tabs.until_streams(1)
    state = "() => { window.state = TrioSSE.state('/states/merge', () => {}, {shared: true, patience: 2}); }"
    for number, tab in enumerate((first, late), 7):
        tab.evaluate(state)
        until(tab, "state.value !== undefined")
        tabs.until_streams(2)
        post(f"{tabs.url}/set/merge", json.dumps({"n": number}))
        until(tab, f"state.value.n === {number}")
    assert first.evaluate("state.value") == {"n": 8}
    late.evaluate("state.source.restart()")
    until(late, "state.source.lastEventId !== '' && state.source.status === 'streaming'")
    tabs.until_streams(2)
    for tab in (first, late):
        tab.evaluate("state.close()")
    tabs.until_streams(1)


def test_all_tabs_learn_the_status_and_the_error(tabs: Tabs) -> None:
    first, second = tabs.open(patience=0.5), tabs.open(patience=0.5)
    tabs.until_streams(1)
    post(f"{tabs.url}/mode", "unavailable")
    for tab in (first, second):
        until(tab, "follower.status === 'polling'")
    tabs.publish()
    tabs.check(_1=first, __1=second)
    post(f"{tabs.url}/mode", "gone")
    for tab in (first, second):
        until(tab, "follower.status === 'closed'")
        assert tab.evaluate("[follower.error.status, follower.error.message.split(' ').pop()]") == [
            410,
            "410",
        ]


def test_tabs_with_other_urls_or_options_do_not_mix(tabs: Tabs) -> None:
    for options in ({"shared": "ada"}, {"shared": "bob"}, {"headers": {"X-A": "b"}}, {"shared": False}):
        tabs.open(**options)
    tabs.open("/topics")
    tabs.until_streams(5)
    tabs.open(shared="ada")
    tabs.open("/topics")
    tabs.until_streams(5)


@pytest.mark.parametrize("missing", ["Navigator.prototype.locks", "window.BroadcastChannel"])
def test_without_locks_or_channels_each_tab_has_its_own(tabs: Tabs, missing: str) -> None:
    owner, _, name = missing.rpartition(".")
    tabs.context.add_init_script(f"Object.defineProperty({owner}, '{name}', {{value: undefined}})")
    first, second = tabs.open(), tabs.open()
    tabs.until_streams(2)
    tabs.publish()
    tabs.check(_1=first, __1=second)


def test_all_tabs_outlive_the_server(browser: Any) -> None:
    port = free_port()
    with profile(browser) as context:
        with serving(port) as url:
            tabs = Tabs(context, url)
            opened = first, second = tabs.open(), tabs.open()
            tabs.until_streams(1)
            tabs.publish()
            tabs.check(_1=first, __1=second)
        for tab in opened:
            until(tab, "['waiting', 'connecting'].includes(follower.status)")
        with serving(port):
            for tab in opened:
                until(tab, "resets === 1 && follower.status === 'streaming'")
            tabs.publish()
            tabs.check(_1=first, __1=second)
            tabs.until_streams(1)
            assert [tab.evaluate("resets") for tab in opened] == [1, 1]
    assert tabs.errors == []
