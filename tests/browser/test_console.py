"""The console's page in a real browser."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ..support.browser import expect, profile
from ..support.console import TOKEN
from ..support.programs import RawStream, serving
from ..support.requirements import needs

pytestmark = [pytest.mark.integration, needs("chromium")]

APP = "tests.support.apps.rooms:server"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Return the URL of a server with a console."""
    with serving(APP, "--console", env={"TRIO_SSE_CONSOLE_TOKEN": TOKEN}) as (_, found):
        yield found


@contextmanager
def console(browser: Any, url: str, fragment: str = f"#token={TOKEN}", **options: Any) -> Iterator[Any]:
    """Open the page; at the end, it must have had no errors and asked no other server for anything."""
    errors: list[str] = []
    requests: list[str] = []
    with profile(browser, **options) as context:
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: requests.append(request.url))
        page.goto(f"{url}/_sse/{fragment}")
        yield page
        refused = "Failed to load resource: the server responded with a status of 401"
        assert [error for error in errors if not (error.startswith(refused) or "net::ERR_" in error)] == []
        assert {urlsplit(request).netloc for request in requests} == {urlsplit(url).netloc}
        assert not any(TOKEN in urlsplit(request).path + urlsplit(request).query for request in requests)


def expect_text(page: Any, selector: str, pattern: str) -> None:
    expect(page.locator(selector)).to_contain_text(re.compile(pattern))


def expect_live(page: Any) -> None:
    expect(page.locator("#status")).to_have_attribute("data-status", "live")


def test_the_link_logs_in_and_the_page_shows_the_server(browser: Any, url: str) -> None:
    with RawStream(f"{url}/rooms/lobby?x") as client, console(browser, url) as page:
        client.read_until(b"id: ")
        expect_live(page)
        assert page.url == f"{url}/_sse/"  # without the token, also in the history
        expect_text(page, "#problems", "No problems")
        expect_text(page, "#streams", "/rooms/lobby")
        expect_text(page, "#topics", "rooms/lobby")
        expect_text(page, "#kinds", r"/rooms/\{room\}")
        expect_text(page, "#numbers", "Published")
        charts = page.locator("#charts svg[role=img]")
        assert charts.count() == 8
        expect(charts.first).to_have_attribute(
            "aria-label", re.compile(r"^Open streams: \d+ now, highest \d+")
        )
        expect(page.locator("#charts .line").first).to_have_attribute("d", re.compile("L"))
        cookies = page.context.cookies()
        assert [(one["httpOnly"], one["sameSite"], TOKEN in one["value"]) for one in cookies] == [
            (True, "Strict", False)
        ]
        page.reload()  # the cookie is enough, and the charts are there at once
        expect_live(page)
        expect(page.locator("#charts .line").first).to_have_attribute("d", re.compile("L"))


def test_a_topic_is_watched_and_published_to_and_a_stream_is_ended(browser: Any, url: str) -> None:
    with RawStream(f"{url}/rooms/den?x") as client, console(browser, url) as page:
        expect_live(page)
        page.locator("#topics tr", has_text="rooms/den").get_by_role("button").click()
        expect_text(page, "#live-status", "^Watching rooms/den")
        page.fill("#publish-event", "greeting")
        page.fill("#publish-data", "<b>hello</b>")
        page.keyboard.press("Enter")
        client.read_until(b"data: <b>hello</b>")
        expect_text(page, "#events", r"greeting .*<b>hello</b>")  # as text
        expect_text(page, "#toast", "Published to rooms/den")
        page.click("#watch-button")
        expect_text(page, "#live-status", "Stopped watching")
        row = page.locator("#streams tr", has_text="/rooms/den")
        button = row.get_by_role("button")
        button.focus()
        page.keyboard.press("Enter")
        expect(page.locator("#confirm")).to_be_visible()
        page.keyboard.press("Escape")  # nothing has happened
        expect(page.locator("#confirm")).not_to_be_visible()
        button.focus()
        page.keyboard.press("Enter")
        page.click("#confirm-yes")
        expect_text(page, "#toast", "Stream .* was ended")
        client.rest()
        expect_text(page, "#ends", "revoked")
        page.click("#pause")
        expect(page.locator("#status")).to_have_attribute("data-status", "paused")


def test_a_question_that_is_asked_again_at_once_takes_the_last_answer(browser: Any, url: str) -> None:
    """The event "close" of the first question may come when the second is open."""
    with RawStream(f"{url}/rooms/twice?x") as client, console(browser, url) as page:
        row = page.locator("#streams tr", has_text="/rooms/twice")
        expect(row.get_by_role("button")).to_be_visible()
        row.get_by_role("button").evaluate(
            "button => { button.click(); document.querySelector('#confirm').close(); button.click(); }"
        )
        page.click("#confirm-yes")
        expect_text(page, "#toast", "Stream .* was ended")
        client.rest()


def test_it_asks_for_the_token_and_logs_out(browser: Any, url: str) -> None:
    with console(browser, url, fragment="") as page:
        expect(page.locator("#token")).to_be_focused()
        page.keyboard.type("a-wrong-token-it-is")
        page.keyboard.press("Enter")
        expect_text(page, "#login-error", "the token is wrong")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        expect_live(page)
        page.click("#logout")
        expect(page.locator("#token")).to_be_visible()
        assert page.context.cookies() == []
        page.reload()
        expect(page.locator("#token")).to_be_visible()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_it_fits_its_window_in_both_themes_and_every_control_has_a_name(
    browser: Any, url: str, width: int, scheme: str
) -> None:
    viewport = {"width": width, "height": 800}
    options: dict[str, Any] = {"viewport": viewport, "color_scheme": scheme, "reduced_motion": "reduce"}
    with RawStream(f"{url}/rooms/wide?x"), console(browser, url, **options) as page:
        expect_live(page)
        expect_text(page, "#streams", "/rooms/wide")
        expect(page.locator("html")).to_have_attribute("data-theme", scheme)
        scroll, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert scroll <= inner == width
        nameless = page.evaluate(
            """[...document.querySelectorAll("button, input, [role=region], table")].filter((element) =>
              !(element.textContent.trim() || element.ariaLabel || element.labels?.length
                || element.getAttribute("aria-labelledby"))).map((element) => element.outerHTML)"""
        )
        assert nameless == []
        assert page.evaluate("getComputedStyle(document.querySelector('.dot')).animationName") == "none"


def test_a_script_in_a_topics_name_is_text(browser: Any, url: str) -> None:
    with RawStream(f"{url}/rooms/%3Cimg%20src=x%20onerror=alert(1)%3E?x"), console(browser, url) as page:
        expect_live(page)
        expect_text(page, "#topics", "rooms/<img src=x onerror=alert")
        assert page.evaluate("document.querySelectorAll('img').length") == 1  # the logo


def test_nodes_and_workers_are_side_by_side_and_drained(browser: Any, tmp_path: Path) -> None:
    env = {"TRIO_SSE_CONSOLE_TOKEN": TOKEN}
    options = ("--console", "--log", f"sqlite:{tmp_path / 'log.db'}")
    with (
        serving(APP, *options, "--workers", "2", env=env) as (program, url),
        serving(APP, *options, env=env) as (other, other_url),
        RawStream(f"{other_url}/rooms/far?x") as client,
        console(browser, url, viewport={"width": 1280, "height": 800}) as page,
    ):
        client.read_until(b"id: ")
        rows = page.locator("#nodes tbody tr")
        expect(rows).to_have_count(2)
        expect(rows.filter(has_text="answers you")).to_have_count(1)
        row = rows.filter(has_not_text="answers you")
        expect(row.locator("td").nth(2)).to_have_text("1")  # its stream
        name = row.locator("th").text_content()
        row.get_by_role("button").click()
        expect_text(page, "#confirm-title", re.escape(f"Drain node {name}?"))
        page.click("#confirm-yes")
        expect_text(page, "#toast", "was asked to drain")
        assert other.wait() == 0
        client.rest()
        expect(page.locator("#nodes-card")).to_be_hidden()  # there is only one left
        workers = page.locator("#workers tbody tr")
        worker = workers.filter(has_text="answers you")
        pid = worker.locator("th").text_content().split()[0]
        worker.get_by_role("button").click()
        page.click("#confirm-yes")
        expect_text(page, "#toast", f"Worker {pid} drains")
        program.stderr.expect(f"pid {pid}, ended after .*: exit status 0; restarting")
        page.locator("#workers").hover()  # so its row stays
        expect(workers.filter(has_text=f"{pid} (answers you)")).to_have_count(0)
        expect(workers.filter(has_text="answers you")).to_have_count(1)


def test_a_server_whose_loop_is_blocked_is_silent(browser: Any) -> None:
    env = {"TRIO_SSE_CONSOLE_TOKEN": TOKEN}
    with serving(APP, "--console", env=env) as (program, url), console(browser, url) as page:
        expect_live(page)
        page.clock.install()
        page.reload()
        expect_text(page, "#problems", "No problems")
        program.send(signal.SIGSTOP)
        try:
            page.clock.fast_forward(60_000)
            expect(page.locator("#status")).to_have_attribute("data-status", "silent")
            expect_text(page, "#status", r"^No answer for \d+\s")
            expect_text(page, "#problems", "^Problems unknown")
        finally:
            program.send(signal.SIGCONT)
        expect_live(page)
        expect_text(page, "#problems", "No problems")


def test_a_drain_is_confirmed_and_the_page_returns_to_a_new_server(browser: Any) -> None:
    env = {"TRIO_SSE_CONSOLE_TOKEN": TOKEN}
    with serving(APP, "--console", env=env) as (program, url), console(browser, url) as page:
        expect_live(page)
        page.click("#drain")
        page.click("#confirm-yes")
        assert program.wait() == 0
        expect(page.locator("#status")).to_have_attribute("data-status", "reconnecting")
        bind = urlsplit(url).netloc
        with serving(APP, "--console", bind=bind, env=env) as (second, _):
            expect_live(page)
            second.send(signal.SIGTERM)
            assert second.wait() == 0
