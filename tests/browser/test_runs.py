"""Runs in a real browser: reloads, second tabs, lost connections, and the end."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support import http
from ..support.browser import profile, until, value_of
from ..support.ports import free_port
from ..support.programs import running
from ..support.requirements import needs

pytestmark = [pytest.mark.integration, needs("chromium")]

# Shows a run; `seen` has each piece as it came.
START = """([to, pause, options]) => {
  window.seen = [];
  window.tenths = [];
  window.run = TrioSSE.run("/runs", {body: {to, pause}, ...options});
  run.addEventListener("tenth", ({data}) => tenths.push(JSON.parse(data).tenth));
  run.addEventListener("change", () => seen.push(run.text));
}"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running([sys.executable, "-m", "tests.support.apps.runs"]) as program:
        yield program.stdout.expect(r"http://\S+")[0]


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    with profile(browser) as made:
        yield made


def opened(context: Any, url: str) -> Any:
    page = context.new_page()
    page.goto(url)
    return page


def start(page: Any, to: int, pause: float, **options: object) -> None:
    page.evaluate(START, [to, pause, options])


def numbers(to: int) -> str:
    return "".join(f"{number} " for number in range(1, to + 1))


def check_end(page: Any, to: int) -> None:
    """Check that a page has everything once at the end."""
    until(page, "run.hasEnded")
    assert page.evaluate("[run.status, run.result, run.state]") == ["finished", {"counted": to}, {"at": to}]
    assert page.evaluate("run.texts") == {"text": numbers(to), "stars": "*" * (to // 10)}
    assert page.evaluate("tenths.length === new Set(tenths).size")
    assert value_of(page, "async () => (await run.ended).status") == "finished"
    # Each text that was shown continues the one before, or starts anew.
    assert page.evaluate("seen.every((text, n) => !n || text.startsWith(seen[n - 1]) || text === '')")


def test_a_reload_in_the_middle_shows_each_token_once(context: Any, url: str) -> None:
    page = opened(context, url)
    start(page, 120, 0.02, key="chat")
    until(page, "run.text.length > 50")
    id = page.evaluate("run.id")
    page.reload()
    start(page, 1, 0, key="chat")
    until(page, "run.text.length > 50")
    assert page.evaluate("run.id") == id
    assert page.evaluate("seen.find((text) => text)").startswith(numbers(10))  # what there was came as one
    tab = opened(context, url)
    start(tab, 1, 0, id=id)
    check_end(page, 120)
    check_end(tab, 120)
    tab.reload()
    start(tab, 1, 0, id=id)
    check_end(tab, 120)


def test_stop_ends_it_for_all_tabs(context: Any, url: str) -> None:
    page, tab = opened(context, url), opened(context, url)
    start(page, 100_000, 0.02)
    until(page, "run.status === 'running'")
    start(tab, 1, 0, id=page.evaluate("run.id"))
    until(tab, "run.text.length > 10")
    tab.evaluate("run.stop()")
    for shown in (page, tab):
        until(shown, "run.hasEnded")
        assert shown.evaluate("[run.status, run.reason]") == ["cancelled", "stopped"]


def test_stop_before_the_id_is_known_cancels_it_as_well(context: Any, url: str) -> None:
    page = opened(context, url)
    page.evaluate(f"(options) => {{ ({START})(options); run.stop(); }}", [100_000, 0.02, {}])
    until(page, "run.hasEnded")
    assert page.evaluate("[run.status, run.reason]") == ["cancelled", "stopped"]


def test_lost_connections_lose_and_repeat_nothing(context: Any, url: str) -> None:
    page = opened(context, url)
    start(page, 150, 0.02)
    for length in (30, 90, 150, 210):
        until(page, f"run.text.length > {length} || run.hasEnded")
        http.post(f"{url}/cut", content="").raise_for_status()
    check_end(page, 150)


def test_a_page_that_was_offline_joins_where_it_was_when_it_is_online_again(context: Any, url: str) -> None:
    page = opened(context, url)
    start(page, 150, 0.02)
    until(page, "run.text.length > 30")
    context.set_offline(True)
    http.post(f"{url}/cut", content="").raise_for_status()
    until(page, "!run.isConnected || run.hasEnded")
    context.set_offline(False)
    check_end(page, 150)


def test_a_server_that_restarts_has_no_run_any_more_and_starts_another(context: Any) -> None:
    port = free_port()
    command = [sys.executable, "-m", "tests.support.apps.runs", f"{port}"]
    with running(command) as program:
        url = program.stdout.expect(r"http://\S+")[0]
        page, tab = opened(context, url), opened(context, url)
        start(page, 100_000, 0.02, key="chat")
        until(page, "run.text.length > 30")
        start(tab, 1, 0, id=page.evaluate("run.id"))
        until(tab, "run.text.length > 30")
        program.send(signal.SIGKILL)
        program.wait()
    for shown in (page, tab):
        until(shown, "!run.isConnected")
        assert shown.evaluate("run.text").startswith(numbers(10))
    with running(command) as program:
        program.stdout.expect(r"http://\S+")
        for shown in (page, tab):
            shown.evaluate("dispatchEvent(new Event('online'))")  # it need not wait for its next attempt
            until(shown, "run.hasEnded")
            assert shown.evaluate("run.status") == "gone"
        page.evaluate("run.forget()")
        start(page, 20, 0, key="chat")
        check_end(page, 20)


def test_a_run_of_a_killed_node_ends_as_lost_on_all_nodes(context: Any, tmp_path: Path) -> None:
    port = free_port()
    first = [sys.executable, "-m", "tests.support.apps.runs", f"{port}", f"{tmp_path / 'log'}"]
    other = [sys.executable, "-m", "tests.support.apps.runs", "0", f"{tmp_path / 'log'}"]
    with running(other) as surviving:
        with running(first) as program:
            page = opened(context, program.stdout.expect(r"http://\S+")[0])
            tab = opened(context, surviving.stdout.expect(r"http://\S+")[0])
            start(page, 100_000, 0.02)
            until(page, "run.text.length > 30")
            start(tab, 1, 0, id=page.evaluate("run.id"))
            until(tab, "run.text.length > 60")
            program.send(signal.SIGKILL)
            program.wait()
        until(tab, "run.hasEnded")
        with running(first) as program:
            program.stdout.expect(r"http://\S+")
            page.evaluate("dispatchEvent(new Event('online'))")
            until(page, "run.hasEnded")
    for shown in (page, tab):
        assert shown.evaluate("run.status") == "lost"
        count = shown.evaluate("run.text.split(' ').length - 1")
        assert shown.evaluate("run.text") == numbers(count)
    assert page.evaluate("run.text") == tab.evaluate("run.text")


@pytest.mark.parametrize("host", ["quart", "starlette on hypercorn"])
def test_apps_show_runs_as_our_routes_do(context: Any, host: str) -> None:
    with running([sys.executable, "-m", "tests.support.apps.hosted_runs", host]) as program:
        url = program.stdout.expect(r"http://\S+")[0]
        page = opened(context, url)
        start(page, 80, 0.02, key="chat")
        until(page, "run.text.length > 20")
        id = page.evaluate("run.id")
        page.reload()
        start(page, 1, 0, key="chat")
        until(page, "run.text.length > 40")
        tab = opened(context, url)
        start(tab, 1, 0, id=id)
        until(tab, "run.text.length > 60")
        context.set_offline(True)
        http.post(f"{url}/cut", content="").raise_for_status()
        for shown in (page, tab):
            until(shown, "!run.isConnected || run.hasEnded")
        context.set_offline(False)
        for shown in (page, tab):
            check_end(shown, 80)
        page.evaluate("run.forget()")
        start(page, 100_000, 0.02, key="chat")
        until(page, "run.status === 'running'")
        start(tab, 1, 0, id=page.evaluate("run.id"))
        until(tab, "run.text.length > 10")
        tab.evaluate("run.stop()")
        for shown in (page, tab):
            until(shown, "run.hasEnded")
            assert shown.evaluate("run.status") == "cancelled"


def test_a_run_that_is_gone_and_a_token(context: Any, url: str) -> None:
    page = opened(context, url)
    start(page, 1, 0, id="nonsense")
    until(page, "run.hasEnded")
    assert page.evaluate("[run.status, run.reason]") == ["gone", "the server responded with 410"]
    page.evaluate("""() => { window.run = TrioSSE.run("/runs?token", {body: {to: 10, pause: 0}}); }""")
    until(page, "run.status === 'gone'")
    page.evaluate(
        """() => { window.run = TrioSSE.run("/runs?token",
            {body: {to: 10, pause: 0}, headers: {Authorization: "Bearer t"}}); }"""
    )
    until(page, "run.status === 'finished'")
    page.evaluate("run.close()")


PARSE = """([bytes, size]) => new Promise((done) => {
  const got = [];
  const blob = new Blob([new Uint8Array(bytes)]);
  const stream = new ReadableStream({ async start(controller) {
    const all = new Uint8Array(await blob.arrayBuffer());
    for (let at = 0; at < all.length; at += size) controller.enqueue(all.slice(at, at + size));
    controller.close();
  }});
  const real = window.fetch;
  window.fetch = async () => new Response(stream, { headers: { "Content-Type": "text/event-stream" } });
  const source = new TrioSSE.FetchSource("/any", { reconnect: false,
    receive: (type, data, id) => got.push([type, data, id]) });
  source.addEventListener("error", () => { window.fetch = real; done([got, source.lastEventId]); });
})"""


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_the_reader_parses_as_the_standard_says(context: Any, url: str, size: int) -> None:
    page = opened(context, url)
    stream = (
        "\ufeffdata: a\r\ndata:b\rdata\n\nid: 7\nevent: e\ndata: größe 💡\n\n:comment\n\n"
        "id: \0\ndata:  x\n\nid\nevent: nothing\n\ndata: y\r\n\r\nid: 9\n\ndata: not complete"
    )
    got = value_of(page, PARSE, [list(stream.encode()), size])
    events = [["message", "a\nb\n", ""], ["e", "größe 💡", "7"], ["message", " x", "7"], ["message", "y", ""]]
    assert got == [events, "9"]


ODD = """async ([stream]) => {
  const real = [window.fetch, window.setTimeout];
  const delays = [];
  window.fetch = async () => new Response(stream, { headers: { "Content-Type": "text/event-stream" } });
  window.setTimeout = (action, delay) => (delays.push(delay), 0);
  const ended = (source) => new Promise((done) => source.addEventListener("error", done));
  const source = new TrioSSE.FetchSource("/any");
  await ended(source);
  await null;
  source.close();
  const closing = new TrioSSE.FetchSource("/any", { receive: () => closing.close() });
  await new Promise((done) => closing.addEventListener("run", done));
  await new Promise((done) => real[1].call(window, done, 0));
  [window.fetch, window.setTimeout] = real;
  const storage = { getItem() { throw new Error("forbidden"); }, setItem() { throw new Error("full"); } };
  window.fetch = async () => new Response(stream, { headers: { "Content-Type": "text/event-stream" } });
  const run = await TrioSSE.run("/any", { key: "k", storage }).ended;
  window.fetch = real[0];
  return [source.lastEventId, Math.max(...delays), closing.lastEventId, run.status, run.texts];
}"""


def test_odd_streams_and_storages(context: Any, url: str) -> None:
    """A pause that no timer has, a close in a listener, a storage that is full, a text named as a method."""
    stream = (
        'retry: 99999999999\nid: 1\nevent: run\ndata: {"id":"r","status":"running"}\n\n'
        'id: 2\nevent: append\ndata: {"text":"x","name":"constructor"}\n\n'
        'id: 3\nevent: end\ndata: {"status":"finished"}\n\n'
    )
    got = value_of(opened(context, url), ODD, [stream])
    assert got == ["3", 3_600_000, "1", "finished", {"text": "", "constructor": "x"}]
