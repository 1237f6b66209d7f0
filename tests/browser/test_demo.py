"""The demo's page, and the server's streams, in a real browser with its own `EventSource`."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from ..support.browser import expect, profile, value_of
from ..support.ports import free_port
from ..support.programs import Program, serving, trio_sse
from ..support.requirements import needs
from ..support.waiting import SECONDS

pytestmark = [pytest.mark.integration, needs("chromium")]


@dataclass
class Tab:
    """A page, and what it complained about."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", self._note)

    def _note(self, message: Any) -> None:
        # That a connection was cut or refused is reported there by the browser itself.
        if message.type in ("error", "warning") and "net::ERR_" not in message.text:
            self.errors.append(message.text)

    @property
    def state(self) -> dict[str, Any]:
        """What the page knows of its stream."""
        state: dict[str, Any] = self.page.evaluate("structuredClone(window.demo.state)")
        return state

    def await_state(self, is_reached: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Wait until the page's state is as wanted; return it."""
        deadline = time.monotonic() + SECONDS
        while not is_reached(state := self.state):
            assert time.monotonic() < deadline, f"the page has got no further than {state}"
            self.page.wait_for_timeout(20)
        return state

    def expect_status(self, status: str) -> None:
        expect(self.page.locator("#status")).to_have_attribute("data-status", status)

    def expect_story(self, pattern: str) -> None:
        expect(self.page.locator("#story")).to_contain_text(re.compile(pattern))


@contextmanager
def tab(browser: Any, url: str, **options: Any) -> Iterator[Tab]:
    """Open a page; at the end, it must have had no errors and asked no other server for anything."""
    with profile(browser, **options) as context:
        opened = Tab(context.new_page())
        opened.page.goto(url)
        yield opened
        assert opened.errors == []
        assert {urlsplit(request).netloc for request in opened.requests} == {urlsplit(url).netloc}


@contextmanager
def dashboard(*options: str, bind: str = "127.0.0.1:0") -> Iterator[tuple[Program, str]]:
    with trio_sse("demo", "--bind", bind, "--log-level", "warning", *options) as program:
        yield program, program.stdout.expect(r"Dashboard of this machine: +(\S+/)$")[1]


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """Return the URL of a dashboard with a log that reaches far back."""
    with dashboard() as (_, url):
        yield url


# The demo's page


def test_the_page_shows_what_comes(browser: Any, demo: str) -> None:
    with tab(browser, demo) as opened:
        opened.expect_status("live")
        state = opened.await_state(lambda state: state["received"] >= 10)
        assert (state["gaps"], state["doubles"], state["lost"], state["unknownLosses"]) == (0, 0, 0, 0)
        assert re.fullmatch(r"[0-9a-f]{8}\.\d+", state["lastEventId"])
        page = opened.page
        expect(page.locator("#curl")).to_have_text(f"curl -N {demo}events")
        expect(page.locator("#last-event-id")).to_have_text(re.compile(r"^[0-9a-f]{8}\.\d+$"))
        expect(page.locator("#story")).to_contain_text(re.compile("Connected, (replayed|no history)"))
        expect(page.locator("#cpu-readout b")).to_contain_text("%")
        expect(page.locator("#processes tbody tr").first).to_be_visible()
        expect(page.locator("[data-server=open_streams]")).to_have_text("1")
        assert page.locator("#cpu-chart canvas").count() == 1


def test_a_cut_stream_reconnects_and_nothing_is_missing(browser: Any, demo: str) -> None:
    with tab(browser, demo) as opened:
        opened.expect_status("live")
        before = opened.state
        opened.page.click("#cut")
        opened.expect_status("reconnecting")
        opened.expect_story("Cut: the server ended this stream, as you asked")
        state = opened.await_state(lambda state: state["cuts"][-1:] and state["cuts"][-1]["settled"])
        opened.expect_status("live")
        (cut,) = state["cuts"]
        assert cut["asked"]
        assert cut["missed"] == cut["replayed"] > 0
        assert (cut["lost"], cut["doubled"], state["gaps"], state["doubles"]) == (0, 0, 0, 0)
        assert 2.5 < cut["away"] < SECONDS  # three seconds, as the server says by `retry`
        assert state["resets"] == []
        assert state["received"] >= before["received"] + cut["replayed"]
        opened.expect_story(rf"Reconnected after .* with Last-Event-ID {re.escape(cut['lastEventId'])}")
        opened.expect_story(
            rf"Missed {cut['missed']} events while disconnected, received all \d+ later: 0 lost, 0 duplicated"
        )


def test_a_short_log_shows_the_gap(browser: Any) -> None:
    with dashboard("--history", "5") as (_, url), tab(browser, url) as opened:
        while True:
            opened.expect_status("live")
            opened.page.click("#cut")
            state = opened.await_state(lambda state: state["cuts"][-1:] and state["cuts"][-1]["settled"])
            if len(state["cuts"]) == len(state["resets"]) == 1:
                break
            opened.page.reload()  # a busy machine holds the page up for longer than five events take
        (cut,), (reset,) = state["cuts"], state["resets"]
        assert reset["reason"] == "expired"
        assert reset["lost"] == cut["lost"] == state["lost"] > 0
        assert cut["missed"] == cut["lost"] + cut["replayed"]
        assert (cut["doubled"], state["gaps"], state["doubles"], state["unknownLosses"]) == (0, 0, 0, 0)
        assert len(state["losses"]) == 1
        opened.expect_story(rf"no longer reaches back that far\. Lost for good: {cut['lost']} events?")
        opened.expect_story(
            rf"Missed \d+ events while disconnected, received \d+ later: {cut['lost']} lost, 0 duplicated"
        )


def test_a_page_reconnects_to_a_server_that_was_restarted(browser: Any) -> None:
    bind = f"127.0.0.1:{free_port()}"
    with dashboard(bind=bind) as (first, url), tab(browser, url) as opened:
        opened.expect_status("live")
        first.send(signal.SIGTERM)
        assert first.wait() == 0
        opened.expect_status("reconnecting")
        with dashboard(bind=bind):
            state = opened.await_state(lambda state: state["cuts"][-1:] and state["cuts"][-1]["settled"])
            opened.expect_status("live")
        (cut,), (reset,) = state["cuts"], state["resets"]
        assert not cut["asked"]
        assert (reset["reason"], reset["lost"]) == ("unknown", None)
        assert (cut["missed"], cut["lost"]) == (None, None)
        assert (state["unknownLosses"], state["gaps"], state["doubles"]) == (1, 0, 0)
        opened.expect_story("does not know that id, so it was probably restarted. Lost for good: an unknown")


def test_the_theme_can_be_changed_and_is_remembered(browser: Any, demo: str) -> None:
    with tab(browser, demo, color_scheme="light") as opened:
        root, button = opened.page.locator("html"), opened.page.locator("#theme")
        for theme, is_dark in (("light", "false"), ("dark", "true")):
            expect(root).to_have_attribute("data-theme", theme)
            expect(button).to_have_attribute("aria-pressed", is_dark)
            if theme == "light":
                bright = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
                button.click()
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") != bright
        opened.page.reload()
        expect(root).to_have_attribute("data-theme", "dark")


@pytest.mark.parametrize("width", [380, 1280])
def test_the_page_fits_its_window(browser: Any, demo: str, width: int) -> None:
    with tab(browser, demo, viewport={"width": width, "height": 800}) as opened:
        opened.await_state(lambda state: state["received"] >= 5)
        expect(opened.page.locator("#processes tbody tr").first).to_be_visible()
        widths = opened.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1] == width


# The browser's own EventSource


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """Return the URL of a server with an empty page."""
    with serving("tests.support.apps.page:server") as (_, url):
        yield f"{url}/"


# Collects what an EventSource receives until it has given up. `close` ends it after this many errors.
COLLECT = """([url, types, options]) => new Promise((resolve) => {
  const events = [], states = [];
  const source = new EventSource(url, options);
  for (const type of ["message", ...types]) {
    source.addEventListener(type, ({ type, data, lastEventId }) => events.push([type, data, lastEventId]));
  }
  source.addEventListener("open", () => states.push("open"));
  source.addEventListener("error", () => {
    states.push(source.readyState === EventSource.CLOSED ? "closed" : "reconnecting");
    if (source.readyState === EventSource.CLOSED) resolve({ events, states });
  });
})"""


def collect(page: Any, url: str, *types: str, **options: object) -> dict[str, list[Any]]:
    """Return all the events of a stream that ends by being refused."""
    collected: dict[str, list[Any]] = value_of(page, COLLECT, [url, types, options])
    return collected


def test_events_arrive_as_they_were_sent(browser: Any, site: str) -> None:
    from ..support.apps.page import SEPARATORS

    with tab(browser, site) as opened:
        collected = collect(opened.page, "/text", "greeting", "empty")
    assert collected["events"] == [
        ["message", "one\ntwo\nthree\nfour\n\nsix", "1"],
        ["message", SEPARATORS, "2"],
        ["greeting", "typed", "3"],
        ["message", " : leading", "grüße"],
        ["empty", "", "grüße"],
    ]
    assert collected["states"] == ["open", "reconnecting", "closed"]


def test_ids_are_sent_back_and_204_is_the_end(browser: Any, site: str) -> None:
    with tab(browser, site) as opened:
        collected = collect(opened.page, "/resume?client=one")
        sent = value_of(opened.page, "async () => (await fetch('/sent?client=one')).text()")
    assert [event[1] for event in collected["events"]] == ["1", "2", "3"]
    assert collected["states"] == ["open", "reconnecting"] * 3 + ["closed"]
    assert sent.split("\n") == ["None", "größe/1", "größe/2", "größe/3"]


def test_nothing_is_missing_or_doubled_when_connections_are_cut(browser: Any, site: str) -> None:
    # What comes right before a cut, the browser may throw away unseen. Then it asks for it again.
    with tab(browser, site) as opened:
        collected = collect(opened.page, "/resume?client=two&cut")
    assert [event[1] for event in collected["events"]] == ["1", "2", "3"]


def test_other_statuses_are_the_end_too(browser: Any, site: str) -> None:
    with tab(browser, site) as opened:
        assert collect(opened.page, "/nowhere")["states"] == ["closed"]
        assert collect(opened.page, "/refused")["states"] == ["closed"]
        told = [error for error in opened.errors if "Failed to load resource" in error]
        assert len(told) == len(opened.errors) == 2
        opened.errors.clear()


def read_hello(browser: Any, site: str, hello: str) -> str:
    """Read a stream of another origin from a page of the site."""
    with profile(browser) as context:
        page = context.new_page()
        page.goto(site)
        data: str = value_of(
            page,
            """(url) => new Promise((resolve) => {
              const source = new EventSource(url, { withCredentials: true });
              source.onmessage = ({ data }) => { source.close(); resolve(data); };
              source.onerror = () => { source.close(); resolve("refused"); };
            })""",
            hello,
        )
        return data


def test_pages_of_another_origin_may_read_what_they_are_let(browser: Any, site: str) -> None:
    port = urlsplit(site).port
    with serving("tests.support.apps.shared:server", env={"TEST_ORIGIN": f"http://localhost:{port}"}) as (
        _,
        url,
    ):
        assert read_hello(browser, f"http://localhost:{port}/", f"{url}/hello") == "hello"
        assert read_hello(browser, f"http://127.0.0.1:{port}/", f"{url}/hello") == "refused"
