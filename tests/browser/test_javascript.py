"""The JavaScript module in a real browser: streams through bad networks, the clock, and states."""

from __future__ import annotations

import copy
import json
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import json_merge_patch
import jsonpatch
import pytest

from ..support import http
from ..support.browser import MILLISECONDS, profile, until, value_of
from ..support.ports import free_port
from ..support.programs import Program, running
from ..support.requirements import needs
from ..support.waiting import SECONDS, until_blocking

pytestmark = [pytest.mark.integration, needs("chromium")]

FOLLOW = """() => {
  window.got = [];
  window.states = [];
  window.resets = [];
  const note = (event) => got.push(Number(event.data));
  const follower = window.follower = TrioSSE.follow("/live",
    {patience: 0.4, firstDelay: 0.05, longestDelay: 0.2, streamAgain: 0.5, wait: 2, lastEventId: "%s"});
  follower.addEventListener("message", note);
  follower.addEventListener("number", note);
  follower.addEventListener("reset", (event) => resets.push(JSON.parse(event.data).reason));
  follower.addEventListener("statuschange", () => states.push(follower.status));
}"""

# A worker that follows, reports its status and each event, and closes when it receives a message.
WORKER = """() => {
  const script = `importScripts("${location.origin}/trio-sse.js");
    const begin = (say) => {
      const follower = TrioSSE.follow("${location.origin}/live");
      follower.addEventListener("statuschange", () => say(follower.status));
      follower.addEventListener("number", (event) => say(event.data));
      return () => follower.close();
    };
    self.onconnect = ({ports: [port]}) => { port.onmessage = begin((text) => port.postMessage(text)); };
    if (self.postMessage) self.onmessage = begin((text) => postMessage(text));`;
  window.worker = (%s(URL.createObjectURL(new Blob([script]))))%s;
  worker.onmessage = ({data}) => { window.report = data; };
}"""


@contextmanager
def serving(port: int = 0) -> Iterator[tuple[Program, str]]:
    with running([sys.executable, "-m", "tests.support.apps.follow", f"{port}"]) as program:
        yield program, program.stdout.expect(r"http://\S+")[0]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as (_, url):
        yield url


@pytest.fixture(scope="module")
def tab(browser: Any) -> Iterator[Any]:
    """Open the page that the tests share: each loads it again, which takes less than opening another."""
    with profile(browser) as context:
        yield context.new_page()


@pytest.fixture
def page(tab: Any, url: str) -> Iterator[Any]:
    """Load the page; what it complains about fails the test."""
    post(f"{url}/mode", "ok")
    errors: list[str] = []

    def note(error: object) -> None:
        errors.append(str(error))

    tab.on("pageerror", note)
    tab.goto(url)
    yield tab
    tab.goto("about:blank")  # which ends its streams
    tab.remove_listener("pageerror", note)
    assert errors == []


def post(url: str, body: object) -> None:
    http.post(url, content=body if isinstance(body, str) else json.dumps(body)).raise_for_status()


def statistics(url: str) -> dict[str, float]:
    report: dict[str, float] = http.get(f"{url}/statistics").json()
    return report


def until_reported(url: str, is_so: Callable[[dict[str, float]], bool]) -> None:
    """Wait until the server's statistics are as wanted."""
    until_blocking(lambda: is_so(statistics(url)), state=lambda: statistics(url))


def follow(page: Any, last_event_id: str = "") -> None:
    page.evaluate(FOLLOW % last_event_id)


@contextmanager
def publishing(url: str, first: int, last: int) -> Iterator[None]:
    """Publish numbers meanwhile; at the end, all have been."""
    thread = threading.Thread(target=post, args=(f"{url}/publish", f"{first} {last}"))
    thread.start()
    try:
        yield
    finally:
        thread.join(2 * SECONDS)
        assert not thread.is_alive(), "the server has not taken the numbers"


def got(page: Any) -> list[int]:
    numbers: list[int] = page.evaluate("got")
    return numbers


# Following


def test_a_script_tag_or_an_import_makes_it_available(page: Any, url: str) -> None:
    names = ["follow", "clock", "state", "run", "FetchSource", "mergePatch", "jsonPatch"]
    assert page.evaluate("Object.keys(TrioSSE)") == names
    page.goto(f"{url}/module")
    until(page, "document.title === 'function'")


def test_a_stream_is_followed_and_closed(page: Any, url: str) -> None:
    follow(page)
    until(page, "follower.status === 'streaming'")
    post(f"{url}/publish", "1 20")
    until(page, "got.length === 20")
    assert got(page) == list(range(1, 21))
    assert page.evaluate("follower.lastEventId.endsWith('.' + follower.lastEventId.split('.').pop())")
    page.evaluate("follower.close()")
    until_reported(url, lambda report: report["streams"] == report["subscriptions"] == 0)
    assert page.evaluate("states") == ["streaming", "closed"]


@pytest.mark.parametrize("mode", ["unavailable", "cut", "withheld"])
def test_where_streams_are_blocked_it_polls_and_later_streams_again(page: Any, url: str, mode: str) -> None:
    follow(page)
    until(page, "follower.status === 'streaming'")
    post(f"{url}/publish", "1 20")
    until(page, "got.length === 20")
    post(f"{url}/mode", mode)
    with publishing(url, 21, 400):
        until(page, "states.includes('polling')")
    post(f"{url}/publish", "401 420")
    until(page, "got.at(-1) === 420")
    post(f"{url}/mode", "ok")
    with publishing(url, 421, 600):
        until(page, "follower.status === 'streaming'")
    post(f"{url}/publish", "601 620")
    until(page, "got.at(-1) === 620")
    assert got(page) == list(range(1, 621))
    assert page.evaluate("resets") == []


@pytest.mark.parametrize("event", ["", "dispatchEvent(new Event('online'))"])
def test_a_stream_whose_heartbeats_are_missing_is_replaced(page: Any, url: str, event: str) -> None:
    follow(page)
    until(page, "follower.status === 'streaming'")
    post(f"{url}/publish", "1 10")
    until(page, "got.length === 10")
    post(f"{url}/mode", "dead")
    until(page, "states.join().endsWith('connecting,streaming')")
    post(f"{url}/publish", "11 20")
    page.evaluate(event)
    until(page, "got.length === 20")
    assert got(page) == list(range(1, 21))


@pytest.mark.parametrize("kind", ["Worker", "SharedWorker"])
def test_a_worker_follows_a_relative_url(page: Any, url: str, kind: str) -> None:
    page.evaluate(
        WORKER % ("new Worker" if kind == "Worker" else "new SharedWorker", ".port" * (kind != "Worker"))
    )
    until(page, "window.report === 'streaming'")
    post(f"{url}/publish", "1 1")
    until(page, "window.report === '1'")
    page.evaluate("worker.postMessage(0)")
    until_reported(url, lambda report: report["streams"] == 0)


def test_events_say_their_topic_over_streams_and_polls(page: Any, url: str) -> None:
    page.evaluate("""() => {
      window.got = [];
      window.follower = TrioSSE.follow("/topics",
        {topics: true, patience: 0.4, firstDelay: 0.05, streamAgain: 9});
      follower.addEventListener("message", ({topic, data}) => got.push([topic, data]));
    }""")
    until(page, "follower.status === 'streaming' && follower.lastEventId !== ''")
    for topic, data in (("other", "1"), ("live", "2")):
        post(f"{url}/say/{topic}", data)
    until(page, "got.length === 2")
    post(f"{url}/mode", "unavailable")
    until(page, "follower.status === 'polling'")
    post(f"{url}/say/other", "3")
    until(page, "got.length === 3")
    assert page.evaluate("got") == [["other", "1"], ["live", "2"], ["other", "3"]]


def test_it_polls_from_the_beginning_and_from_a_cursor(page: Any, url: str) -> None:
    follow(page)
    until(page, "follower.status === 'streaming'")
    post(f"{url}/publish", "1 10")
    until(page, "got.length === 10")
    cursor = page.evaluate("follower.lastEventId")
    page.evaluate("follower.close()")
    post(f"{url}/publish", "11 20")
    post(f"{url}/mode", "unavailable")
    follow(page, cursor)
    until(page, "got.length === 10")
    assert got(page) == list(range(11, 21))
    assert page.evaluate("follower.status") == "polling"


def test_a_server_that_is_away_is_waited_for(page: Any, url: str) -> None:
    follow(page)
    until(page, "follower.status === 'streaming'")
    post(f"{url}/publish", "1 2")
    until(page, "got.length === 2")
    post(f"{url}/mode", "away")
    until(page, "follower.status === 'waiting'")
    post(f"{url}/publish", "3 10")
    post(f"{url}/mode", "ok")
    until(page, "got.length === 10")
    assert got(page) == list(range(1, 11))


def test_what_is_published_before_its_first_event_is_not_lost(page: Any, url: str) -> None:
    follow(page)
    until(page, "follower.status === 'streaming' && follower.lastEventId !== ''")
    post(f"{url}/mode", "away")
    post(f"{url}/publish", "1 5")
    post(f"{url}/mode", "ok")
    until(page, "got.length === 5")
    assert (got(page), page.evaluate("resets")) == ([1, 2, 3, 4, 5], [])


def test_a_stream_without_a_cursor_gets_one_from_a_poll(page: Any, url: str) -> None:
    post(f"{url}/mode", "withheld")
    follow(page)
    until(page, "follower.status === 'streaming' && follower.lastEventId !== ''")
    post(f"{url}/publish", "1 5")
    until(page, "got.length === 5")
    assert page.evaluate("follower.status") == "polling"


def test_a_final_refusal_ends_it(page: Any, url: str) -> None:
    post(f"{url}/mode", "gone")
    follow(page)
    until(page, "follower.status === 'closed'")
    assert page.evaluate("[follower.error.status, follower.error.message]") == [
        410,
        f"{url}/live responded with 410",
    ]


def test_after_a_gap_it_receives_a_reset_and_continues(page: Any, url: str) -> None:
    follow(page)
    until(page, "follower.status === 'streaming'")
    post(f"{url}/publish", "1 2")
    until(page, "got.length === 2")
    post(f"{url}/mode", "away")
    post(f"{url}/forget/live", "")
    post(f"{url}/mode", "ok")
    until(page, "resets.length === 1")
    post(f"{url}/publish", "3 4")
    until(page, "got.length === 4")
    assert (got(page), page.evaluate("resets")) == ([1, 2, 3, 4], ["expired"])


def test_it_outlives_the_server(tab: Any) -> None:
    port = free_port()
    with serving(port) as (_, url):
        opened = tab.context.new_page()
        opened.goto(url)
        follow(opened)
        until(opened, "follower.status === 'streaming'")
        post(f"{url}/publish", "1 5")
        until(opened, "got.length === 5")
    until(opened, "['waiting', 'connecting'].includes(follower.status)")
    with serving(port):
        until(opened, "resets.length === 1")
        post(f"{url}/publish", "6 9")
        until(opened, "got.length === 9")
        assert got(opened) == list(range(1, 10))
        opened.close()


# Cursors, by what a browser itself sends


def test_an_event_source_resumes_from_the_cursor_of_a_stream_without_events(page: Any, url: str) -> None:
    page.evaluate("""() => {
      window.got = [];
      window.others = [];
      window.source = new EventSource("/live");
      source.addEventListener("message", (event) => got.push(Number(event.data)));
      source.addEventListener("number", (event) => got.push(Number(event.data)));
      source.addEventListener("reset", () => others.push("reset"));
    }""")
    until_reported(url, lambda report: report["subscriptions"] == 1)
    until(page, "source.readyState === EventSource.OPEN")
    post(f"{url}/mode", "ok")  # the stream is cut
    post(f"{url}/publish", "1 5")
    until(page, "got.length === 5")
    assert (got(page), page.evaluate("others")) == ([1, 2, 3, 4, 5], [])
    page.evaluate("source.close()")


@pytest.mark.parametrize(("cache", "ending"), [("default", "\n"), ("no-store", "\n\n")])
def test_a_fetch_receives_the_cursor_without_a_blank_line(
    page: Any, url: str, cache: str, ending: str
) -> None:
    """By default: with `no-store`, a browser sends what an `EventSource` sends."""
    first = value_of(
        page,
        """async (cache) => {
          const response = await fetch("/live", {headers: {Accept: "text/event-stream"}, cache});
          const reader = response.body.getReader();
          const {value} = await reader.read();
          await reader.cancel();
          return new TextDecoder().decode(value);
        }""",
        cache,
    )
    assert re.fullmatch(rf"id: [0-9a-f]{{8}}\.\d+{ending}", first)


# The clock

COUNT_TICKS = "clock.source.addEventListener('tick', () => window.ticks = (window.ticks ?? 0) + 1)"

# A page that is held up leaves out seconds.
FOUR_IN_A_ROW = """seconds.some(([last], n) =>
  n >= 3 && [1, 2, 3].every((back) => seconds[n - back][0] === last - back))"""


def test_all_pages_show_the_same_time_however_wrong_their_own_is(browser: Any, url: str) -> None:
    for offset in (0, 3_600_000, -86_400_000):  # what is right to a minute cannot be one of these
        with profile(browser) as context:
            context.add_init_script(f"Date.now = ((now) => () => now.call(Date) + {offset})(Date.now);")
            opened = context.new_page()
            opened.goto(url)
            first = opened.evaluate("(window.clock = TrioSSE.clock('/clock')).elapsed()")
            # The page says it before the first tick has come.
            assert first == pytest.approx(statistics(url)["elapsed"], abs=SECONDS)
            opened.evaluate(COUNT_TICKS)
            until(opened, "window.ticks > 5")
            before = statistics(url)["elapsed"]
            assert opened.evaluate("clock.elapsed()") == pytest.approx(before, abs=SECONDS)
            assert opened.evaluate("clock.offset") == pytest.approx(offset, abs=MILLISECONDS)
            assert opened.evaluate("clock.now()") == pytest.approx(time.time() * 1000, abs=MILLISECONDS)


def test_seconds_begin_when_the_servers_do_and_never_run_backwards(page: Any) -> None:
    page.evaluate("""() => {
      window.seconds = [];
      window.clock = TrioSSE.clock("/clock");
      window.stop = clock.onSecond((second) => seconds.push([second, clock.elapsed()]));
    }""")
    until(page, FOUR_IN_A_ROW)
    page.evaluate("stop()")
    seconds = page.evaluate("seconds")
    numbers = [second for second, _ in seconds]
    assert numbers == sorted(set(numbers))
    assert all(second <= elapsed for second, elapsed in seconds)
    page.evaluate("clock.close()")
    until(page, "clock.source.status === 'closed'")


def test_a_long_replay_of_ticks_does_not_make_the_clock_stand_still(page: Any) -> None:
    shown = page.evaluate("""() => {
      let seconds = 0;
      performance.now = () => seconds * 1000;
      const source = TrioSSE.follow("/live");
      const clock = TrioSSE.clock(source);
      const tick = (sequence) => source.dispatchEvent(new MessageEvent("tick", {data: JSON.stringify(
        {sequence, elapsed: sequence, time: "2026-01-01T00:00:00Z", server_time: Date.UTC(2026, 0, 1)})}));
      for (seconds = 1; seconds <= 5; seconds++) tick(seconds);
      seconds = 40.9;
      for (let sequence = 6; sequence <= 40; sequence++) tick(sequence);
      const shown = [clock.elapsed()];
      seconds = 41.4;
      shown.push(clock.elapsed());
      source.close();
      return shown;
    }""")
    assert shown == [pytest.approx(40.9), pytest.approx(41.4)]


def test_an_offset_of_the_page_is_where_it_begins(page: Any, url: str) -> None:
    page.goto(f"{url}/?offset=1000")
    assert 1000 <= page.evaluate("TrioSSE.clock('/live').elapsed()") < 1000 + SECONDS
    assert http.get(f"{url}/?offset=-1").status_code == 400


# States


@pytest.mark.parametrize("name", ["merge", "patch"])
def test_a_state_is_kept_up_to_date_whatever_happens(page: Any, url: str, name: str) -> None:
    values: list[object] = [
        {"n": 1, "deep": {"kept": True}, "rest": "x" * 100},
        {"n": 2, "deep": {"kept": True, "__proto__": {"polluted": 1}}, "rest": "x" * 100},
        {"n": 3, "deep": {}, "rest": "x" * 100, "rows": [1, {"a/b": "~"}, 3]},
        {"n": 4, "deep": {}, "rest": "x" * 100, "rows": [1, {"a/b": "/"}]},
        {"n": 5, "deep": None, "rest": "x" * 100, "rows": []},
    ]
    page.evaluate(f"""() => {{
      window.seen = [];
      window.state = TrioSSE.state("/states/{name}", (value) => seen.push(JSON.stringify(value)),
        {{patience: 0.4, firstDelay: 0.05, streamAgain: 0.5}});
    }}""")
    until(page, "seen.length === 1")
    for number, value in enumerate(values):
        if number == 2:
            post(f"{url}/mode", "unavailable")
        if number == 4:
            post(f"{url}/mode", "away")
            post(f"{url}/forget/{name}", "")  # all that the page has missed
            post(f"{url}/mode", "ok")
        post(f"{url}/set/{name}", value)
        until(page, f"state.value?.n === {number + 1}")
        assert json.loads(page.evaluate("JSON.stringify(state.value)")) == value
    forgotten = [value for value in map(json.loads, page.evaluate("seen")) if value.get("n", 0) < 0]
    assert len(forgotten) <= 1  # a snapshot has the last one
    assert page.evaluate("({}).polluted") is None
    page.evaluate("state.close()")


def random_value(chance: random.Random, depth: int = 3) -> Any:
    match chance.randrange(8 if depth else 5):
        case 0:
            return chance.choice([None, True, False])
        case 1 | 2:
            return chance.randrange(3)
        case 3 | 4:
            return chance.choice(["", "a", "/", "~", "~1", "é"])
        case 5:
            return [random_value(chance, depth - 1) for _ in range(chance.randrange(4))]
    return {
        chance.choice(["a", "b", "a/b", "~", "", "0", "__proto__", "constructor"]): random_value(
            chance, depth - 1
        )
        for _ in range(chance.randrange(4))
    }


def test_patches_are_applied_as_the_standards_say(page: Any) -> None:
    chance = random.Random(1)
    merges, patches = [], []
    for _ in range(400):
        old, new = random_value(chance), random_value(chance)
        merges.append((old, new, json_merge_patch.merge(copy.deepcopy(old), copy.deepcopy(new))))
        patch = jsonpatch.make_patch(old, new).patch
        patches.append((old, patch, jsonpatch.apply_patch(old, patch)))
    for function, cases in (("mergePatch", merges), ("jsonPatch", patches)):
        applied = page.evaluate(
            f"(cases) => JSON.parse(cases).map(([old, change]) => {{ const before = JSON.stringify(old);"
            f" const result = JSON.stringify(TrioSSE.{function}(old, change));"
            " return [result, before === JSON.stringify(old)]; })",
            json.dumps([case[:2] for case in cases]),
        )
        for (old, change, expected), (result, is_untouched) in zip(cases, applied, strict=True):
            assert json.loads(result) == expected, (function, old, change)
            assert is_untouched, (function, old, change)


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/missing"},
        {"op": "replace", "path": "/rows/9", "value": 1},
        {"op": "add", "path": "/rows/-1", "value": 1},
        {"op": "add", "path": "/rows/01", "value": 1},
        {"op": "test", "path": "/rows", "value": [1]},
        {"op": "move", "from": "/rows", "path": "/rows/0"},
        {"op": "add", "path": "rows", "value": 1},
        {"op": "leap", "path": "/rows"},
        {"op": "add", "path": "/__proto__/polluted", "value": 1},
    ],
)
def test_what_cannot_be_applied_is_an_error(page: Any, operation: dict[str, object]) -> None:
    error = page.evaluate(
        "(operation) => { try { TrioSSE.jsonPatch({rows: [1, 2]}, [operation]); return null; }"
        " catch (error) { return error.message; } }",
        operation,
    )
    assert error
    assert page.evaluate("({}).polluted") is None
