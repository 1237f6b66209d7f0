"""The examples with a page, in a real browser: each does what it should show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ..support import browser as browsers
from ..support import http
from ..support.browser import profile, until
from ..support.programs import example
from ..support.requirements import needs
from ..support.waiting import until_blocking

pytestmark = [pytest.mark.integration, needs("chromium")]


@contextmanager
def opened(
    browser: Any,
    name: str,
    *arguments: str,
    pages: int = 1,
    path: str = "",
    env: Mapping[str, str] | None = None,
) -> Iterator[list[Any]]:
    """Run an example; give its page, in as many windows as are wanted. No page may complain."""
    errors: list[str] = []
    with example(name, *arguments, env=env) as (_, url), ExitStack() as stack:
        windows = []
        for _ in range(pages):
            window = stack.enter_context(profile(browser, base_url=url)).new_page()
            window.on("pageerror", lambda error: errors.append(str(error)))
            window.goto(f"{url}/{path}")
            windows.append(window)
        yield windows
    assert errors == []


def expect(window: Any, selector: str) -> Any:
    return browsers.expect(window.locator(selector))


def number_in(selector: str) -> str:
    return f"parseInt(document.querySelector('{selector}').textContent.replace(/\\D/g, '') || '0')"


def test_dashboard_shows_what_changes_at_the_interval_of_the_page(browser: Any) -> None:
    with opened(browser, "dashboard") as (window,):
        until(window, f"{number_in('#requests')} > 0")
        expect(window, "#status").to_have_text("streaming")
        assert window.locator("#regions .bar").count() == 4
        window.select_option("#every", "0.1")
        until(window, f"{number_in('#updates')} > 10")
        assert http.get(f"{window.url}board?every=x").status_code == 400


def log_in(window: Any, name: str) -> None:
    window.fill("#name", name)
    window.press("#name", "Enter")
    expect(window, "#status").to_have_text("streaming")


def test_notifications_reach_their_user_also_after_an_absence(browser: Any) -> None:
    with opened(browser, "notifications", pages=2) as (ada, bob):
        log_in(ada, "Ada")
        ada.fill("#to", "Bob")
        for text in ("first", "second"):
            ada.fill("#text", text)
            ada.press("#text", "Enter")
            expect(ada, "#text").to_have_value("")
        log_in(bob, "Bob")
        expect(bob, "#list li").to_have_text(["Ada: second", "Ada: first"])
        expect(bob, "#status").to_have_text("streaming")
        tab = bob.context.new_page()
        tab.goto("/")
        expect(tab, "#status").to_have_text("streaming")
        ada.fill("#text", "third")
        ada.press("#text", "Enter")
        for window in (bob, tab):
            expect(window, "#list li").to_have_text(["Ada: third", "Ada: second", "Ada: first"])
        expect(ada, "#count").to_have_text("0 unread")
        bob.reload()
        expect(bob, "#list li").to_have_count(3)
        bob.click("#read")
        expect(bob, "#count").to_have_text("0 unread")
        bob.reload()
        expect(bob, "#count").to_have_text("0 unread")


def test_an_answer_goes_on_where_it_was_cut_off_and_can_be_stopped(browser: Any) -> None:
    with opened(browser, "ai_answer") as (window,):
        window.fill("#question", "Why?")
        window.click("#go")
        until(window, "document.querySelector('#answer').textContent.split(' ').length > 10")
        window.click("#cut")
        expect(window, "#status").to_have_text("disconnected")
        until(window, "document.querySelector('#answer').textContent.split(' ').length > 40")
        expect(window, "#answer").to_contain_text(
            "You ask a good question, and I am only a stand-in: a text file"
        )
        expect(window, "#answer").to_contain_text("as an event stream, and each of them has an id.")
        window.reload()
        expect(window, "#answer").to_contain_text("You ask a good question, and I am only a stand-in")
        window.click("#stop")
        expect(window, "#status").to_have_text("cancelled")
        expect(window, "#answer").not_to_contain_text("it is one line")


def test_an_agent_goes_on_when_its_page_reloads_and_is_stopped_from_another(browser: Any) -> None:
    with opened(browser, "agent", env={"PAUSE": "3600"}) as (window,):  # it has not ended when it is stopped
        window.fill("#question", "How does a client resume?")
        window.press("#question", "Enter")
        expect(window, "#plan").to_have_text("I")
        run = window.evaluate("run.id")
        window.reload()
        expect(window, "#plan").to_have_text("I")
        expect(window, "#doing").to_have_text("planning")
        expect(window, "#question").to_have_value("How does a client resume?")
        other = window.context.new_page()
        other.goto(f"/?run={run}")
        expect(other, "#plan").to_have_text("I")
        other.keyboard.press("Escape")
        for each in (window, other):
            expect(each, "#status").to_have_text("cancelled")
        window.click("#samples button >> nth=1")
        expect(window, "#status").to_have_text("working")
        expect(window, "#plan").to_have_text("I")
        assert window.evaluate("run.id") != run


def test_an_agent_shows_its_tools_and_its_answer_also_later(browser: Any) -> None:
    with opened(browser, "agent", env={"PAUSE": "0.002"}) as (window,):
        window.click("#samples button >> nth=0")
        expect(window, "#status").to_have_text("finished")
        shown = [window.inner_text(name) for name in ("#plan", "#tools", "#answer", "#percent")]
        assert shown[1].startswith("search: client resume after disconnect")
        assert shown[1].count("read: ") == 3
        assert shown[3] == "100 %"
        window.reload()
        expect(window, "#status").to_have_text("finished")
        until(window, "calls.size === 4 && run.text.length > 40")
        assert [window.inner_text(name) for name in ("#plan", "#tools", "#answer", "#percent")] == shown


def test_hashing_survives_a_reload_and_is_cancelled_or_ends(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "file").write_text("content")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(5_000_000_000)
    with opened(browser, "file_hashing", str(tmp_path)) as (window,):
        window.fill("#folder", "large")
        window.press("#folder", "Enter")
        until(window, "run.state?.done_bytes > 0")
        before = window.evaluate("[run.id, run.state.done_bytes]")
        window.reload()
        until(window, "run.state?.done_bytes > 0")
        after = window.evaluate("[run.id, run.state.done_bytes]")
        assert (after[0], after[1] >= before[1]) == (before[0], True)
        window.click("#cancel")
        expect(window, "#status").to_have_text("cancelled")
        window.fill("#folder", "missing")
        window.press("#folder", "Enter")
        expect(window, "#status").to_have_text("the server responded with 404")
        window.fill("#folder", "few")
        window.press("#folder", "Enter")
        expect(window, "#status").to_have_text("finished")
        expect(window, "#percent").to_have_text("100 %")
        assert window.inner_text("#sums").endswith("few/file")
        assert len(window.inner_text("#sha256")) == 64
        assert window.evaluate(
            "fetch(document.querySelector('#save').href).then((saved) => saved.text())"
        ) == (window.evaluate("run.text"))


def test_progress_of_a_job_reaches_its_end(browser: Any) -> None:
    with opened(browser, "progress") as (window,):
        expect(window, "#status").to_have_text("streaming")
        for _ in range(2):
            window.click("#start")
        expect(window, ".what").to_have_count(2)
        for what in window.locator(".what").all():
            browsers.expect(what).to_contain_text("SHA-256")
        expect(window, ".percent").to_have_text(["100 %", "100 %"])


@pytest.mark.parametrize("path", ["", "?stream"], ids=["websocket", "stream"])
def test_chat_shows_all_who_is_present_and_what_was_said(browser: Any, path: str) -> None:
    with opened(browser, "chat", pages=2, path=path) as (ada, bob):
        for window, name in ((ada, "Ada"), (bob, "Bob")):
            window.fill("#name", name)
            window.press("#name", "Enter")
            expect(window, "#here").to_have_text("Ada" if name == "Ada" else "Ada, Bob")
            window.fill("#text", f"I am {name}")
            window.press("#text", "Enter")
            expect(window, "#said li").to_have_count(1 if name == "Ada" else 2)
        expect(ada, "#said li").to_have_text(["Ada I am Ada", "Bob I am Bob"])
        expect(bob, "#said li").to_have_text(["Ada I am Ada", "Bob I am Bob"])
        expect(ada, "#here").to_have_text("Ada, Bob")
        bob.goto("about:blank")
        expect(ada, "#here").to_have_text("Ada")


def test_feed_shows_the_lines_of_a_file_as_they_are_written(browser: Any) -> None:
    with opened(browser, "feed") as (window,):
        until(window, "document.querySelector('#lines').textContent.split('\\n').length > 3")
        expect(window, "#lines").to_contain_text("1 ")
        window.reload()
        expect(window, "#lines").to_contain_text("1 ")  # those that came before, too


def test_htmx_swaps_what_the_server_sends(browser: Any) -> None:
    with opened(browser, "htmx_votes", pages=2) as (one, other):
        expect(other, "[sse-swap=tea]").to_contain_text("0")
        expect(one, "[sse-swap=coffee]").to_contain_text("Coffee")
        one.click("text=Tea, please")
        expect(other, "[sse-swap=tea]").to_contain_text("1")
        expect(one, "[sse-swap=tea]").to_contain_text("1")


def test_datastar_merges_what_the_server_sends(browser: Any) -> None:
    with opened(browser, "datastar_counter", pages=2) as (one, other):
        expect(other, "#time").to_contain_text(":")
        expect(one, "#clicks").to_have_text("0")
        one.click("button")
        expect(other, "#clicks").to_have_text("1")
        expect(one, "#clicks").to_have_text("1")


def test_the_clock_is_the_same_in_every_window(browser: Any) -> None:
    with opened(browser, "clock", pages=2) as windows:
        for window in windows:
            until(window, f"{number_in('#left')} > 0")

        def show_the_same() -> bool:
            """Return whether they do: each is read at its own time, and a second may begin in between."""
            one, other = (window.evaluate(number_in("#left")) for window in windows)
            return bool(one == other)

        until_blocking(show_the_same)
