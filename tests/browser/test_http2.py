"""A real browser over HTTP/2: as many streams of one page as it wants, on one connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from ..support import browser as browsers
from ..support import http
from ..support.browser import profile, until, value_of
from ..support.certificates import Certificate
from ..support.programs import example, serving
from ..support.requirements import needs
from ..support.waiting import until_blocking

pytestmark = [pytest.mark.integration, needs("chromium")]

STREAMS = 40

#: Opens streams, and one that our module follows; each notes the numbers that it has got.
OPEN = """count => {
  window.got = [...Array(count).keys()].map(() => []);
  window.errors = 0;
  window.sources = got.map(numbers => {
    const source = new EventSource("/live");
    const note = event => numbers.push(Number(event.data));
    source.addEventListener("message", note);
    source.addEventListener("number", note);
    source.addEventListener("error", () => errors++);
    return source;
  });
  window.followed = [];
  window.follower = TrioSSE.follow("/live", {firstDelay: 0.05, longestDelay: 0.2});
  for (const type of ["message", "number"])
    follower.addEventListener(type, event => followed.push(Number(event.data)));
}"""

#: Opens a WebSocket, which browsers do on the connection of HTTP/2 that they have (RFC 8441).
ECHO = """() => new Promise((resolve, reject) => {
  const socket = new WebSocket(`wss://${location.host}/echo`);
  socket.onopen = () => socket.send("hello");
  socket.onmessage = event => { resolve(event.data); socket.close(); };
  socket.onerror = reject;
})"""
PROTOCOLS = "performance.getEntriesByType('{}').map(entry => entry.nextHopProtocol)"


@contextmanager
def opened(browser: Any, url: str) -> Iterator[Any]:
    """Open a page; it may not complain."""
    complaints: list[str] = []
    with profile(browser, ignore_https_errors=True) as context:
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        yield page
    assert complaints == []


def expect(page: Any, selector: str) -> Any:
    return browsers.expect(page.locator(selector))


@pytest.mark.parametrize("has_http2", [True, False])
def test_forty_streams_of_a_page_are_open_beside_a_post(browser: Any, has_http2: bool) -> None:
    env = {"HTTP2": "1" if has_http2 else "0"}
    with example("http2", env=env) as (_, url), opened(browser, url) as page:
        expect(page, "#open").to_have_text(f"{STREAMS}" if has_http2 else "6")
        page.click("button")
        if not has_http2:  # this is what HTTP/2 is for: the rest of the streams, and the POST, wait
            expect(page, "#answer").to_have_text("")
            return
        until(page, "[...document.querySelectorAll('li')].every(item => item.textContent.includes('°C'))")
        expect(page, "#answer").to_have_text("reset over HTTP/2")
        assert page.evaluate(PROTOCOLS.format("navigation")) == ["h2"]
        assert set(page.evaluate(PROTOCOLS.format("resource"))) == {"h2"}


def test_streams_that_are_cut_resume_and_none_misses_an_event(browser: Any, certificate: Certificate) -> None:
    options = ("--certfile", certificate.chain, "--keyfile", certificate.key)
    with (
        serving("tests.support.apps.follow:server", *options) as (_, url),
        http.Client(base_url=url, verify=certificate.context) as client,
        opened(browser, url) as page,
    ):
        page.evaluate(OPEN, STREAMS)
        until(page, "sources.every(one => one.readyState === 1) && follower.status === 'streaming'")
        assert streams(client) == STREAMS + 1
        assert value_of(page, ECHO) == "hello over HTTP/2"
        client.post("/publish", content="1 10").raise_for_status()
        until(page, "[...got, followed].every(numbers => numbers.length === 10)")

        client.post("/mode", content="ok").raise_for_status()  # which cuts all streams, by RST_STREAM
        client.post("/publish", content="11 20").raise_for_status()
        until(page, "[...got, followed].every(numbers => numbers.length >= 20)")
        assert page.evaluate("[...got, followed]") == [list(range(1, 21))] * (STREAMS + 1)
        assert page.evaluate("errors") >= STREAMS

        page.evaluate("sources.forEach(one => one.close()); follower.close()")
        until_blocking(lambda: not streams(client))


def streams(client: httpx.Client) -> int:
    return int(client.get("/statistics").json()["streams"])
