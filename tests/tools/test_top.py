"""`trio-sse top`: its keys and its screen, and the program in a real terminal."""

from __future__ import annotations

import io
import json
import re
import signal
import socket
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing
from rich.console import Console

import trio_sse
from trio_sse._tools.top.commands import Command, Post, Quit, Watch
from trio_sse._tools.top.keys import parse_keys
from trio_sse._tools.top.model import TABS, Model
from trio_sse._tools.top.run import print_once
from trio_sse._tools.top.session import ConsoleSession, split_link
from trio_sse._tools.top.text import count, percent, printable, seconds, size, sparkline
from trio_sse._tools.top.view import SILENT, render, render_foot
from trio_sse.client import StreamUnavailable

from ..support.cases import each_case
from ..support.command_line import run
from ..support.console import TOKEN
from ..support.programs import RawStream, serving
from ..support.terminal import terminal

APP = "tests.support.apps.rooms:server"


def snapshot(**changes: object) -> dict[str, Any]:
    stream = {
        "id": 7,
        "pid": 42,
        "identity": "ada",
        "path": "/rooms/\x1b[2J",
        "peer": "127.0.0.1:5",
        "topics": ["rooms/a"],
        "age": 75.0,
        "events": 1234,
        "bytes": 5,
        "waiting_bytes": 2048,
    }
    topic = {"name": "[bold]a", "subscribers": 3, "rate": None, "log_events": 4, "log_bytes": 5}
    worker = {"pid": 9, "at": 990.0, "is_draining": 0, "problems": [], "open_streams": 1, "lagging": 0}
    worker |= {"longest_turn": 0.2, "memory": 1, "descriptors": 8}
    return {
        "at": 1000.0,
        "interval": 2.0,
        "pid": 42,
        "problems": [],
        "totals": {},
        "sample": {"at": 1000.0, "open_streams": 5.0, "events_rate": 1.5, "memory": 3e6, "loop_busy": 0.25},
        "streams": [{**stream, "id": number} for number in range(7, 47)],
        "topics": [topic, {**topic, "name": "b"}],
        "ends": [{**stream, "at": 900.0, "reason": "client_disconnected"}],
        "kinds": [{"route": "/rooms/{room}", "transport": "sse", "http": "2", "tls": True, "open": 2}],
        "workers": [
            {**worker, "longest_turn": 0.2, "memory": None, "descriptors": 8},
            {**worker, "pid": 10, "is_draining": 1, "longest_turn": 0.2, "memory": 1, "descriptors": 8},
            {
                **worker,
                "pid": 11,
                "problems": ["log_lagging"],
                "longest_turn": 0,
                "memory": 1,
                "descriptors": 1,
            },
        ],
        "nodes": [
            {**worker, "id": "a", "name": "one 1", "is_own": True, "processes": 3},
            {**worker, "id": "b", "name": "two 2", "is_own": False, "processes": 1, "is_draining": 1},
        ],
        **changes,
    }


def model() -> Model:
    made = Model()
    made.receive("history", {"samples": [{"at": 999.0, "open_streams": 4.0}, {"at": 1.0}]})
    made.receive("snapshot", snapshot())
    return made


def drawn(shown: Model, encoding: str = "utf-8", height: int = 30, width: int = 110) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    console = Console(file=file, width=width, height=height, color_system=None)
    console.print(render(shown, console))
    console.print(render_foot(shown))
    file.flush()
    raw = file.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode(encoding)


def press(shown: Model, *keys: str) -> list[Command]:
    return [command for key in keys if (command := shown.press(key)) is not None]


def type_text(shown: Model, text: str) -> list[Command]:
    return press(shown, *text, "enter")


# Keys


def test_keys_are_parsed() -> None:
    text = "a\x1b[A\x1bOB\x1b[5~\x1b[Z\x1b[15~\t\r\x7f\x1bx\x01é \x1b"
    names = ["a", "up", "down", "page up", "back tab", "tab", "enter", "backspace", "é", " ", "escape"]
    assert list(parse_keys(text)) == names  # no unknown sequence, no key with Alt, no other control character


def test_keys_move_and_choose_tables() -> None:
    shown = model()
    press(shown, "down", "j", "page down", "up", "k")
    assert shown.selected == 10
    press(shown, *["page down"] * 9)
    assert shown.selected == 39
    press(shown, "2", "down", "down")
    assert (shown.tab, shown.selected) == ("topics", 1)
    press(shown, "tab", "right")
    assert (shown.tab, shown.selected) == ("kinds", 0)
    press(shown, "back tab", "left", "left", "left")
    assert shown.tab == TABS[-1]
    press(shown, " ")
    shown.receive("snapshot", snapshot(pid=43))
    assert shown.snapshot is not None
    assert shown.snapshot["pid"] == 42  # it is paused
    press(shown, " ", "?", "x")
    assert (shown.is_paused, shown.shows_help) == (False, False)
    shown.receive("snapshot", snapshot(nodes=[]))
    assert (shown.selected, shown.row) == (0, None)
    assert press(shown, "x", "q") == [Quit()]


def test_actions_are_asked_for_first() -> None:
    shown = model()
    press(shown, "down", "e")
    assert "End stream 8, /rooms/·[2J of 127.0.0.1:5?" in drawn(shown)
    assert type_text(shown, "y") == [Post("end", {"id": 8, "pid": 42}, "Stream 8 was ended.")]
    assert press(shown, "e", "enter", "e", "n", "enter", "e", "escape") == []
    press(shown, "2", "e")
    assert "Select a connection first" in drawn(shown)
    assert press(shown, "enter") == [Watch("[bold]a")]
    press(shown, "p", *["backspace"] * 7)
    press(shown, *"a", "enter")
    assert type_text(shown, "hé") == [Post("publish", {"topic": "a", "data": "hé"}, "Published to a.")]
    assert press(shown, "d", "d", "enter") == []
    assert "Not drained" in drawn(shown)
    press(shown, "d")
    assert type_text(shown, "drain") == [Post("drain", {"confirm": "drain"}, "The server drains.")]
    press(shown, "5", "down", "d")
    assert 'Type "drain" to drain worker 10' in drawn(shown)
    drain = Post("drain", {"confirm": "drain", "pid": 10}, "Worker 10 drains.")
    assert type_text(shown, "drain") == [drain]
    press(shown, "6", "down", "d")
    drain = Post("drain", {"confirm": "drain", "node": "b"}, "Node two 2 drains.")
    assert type_text(shown, "drain") == [drain]
    press(shown, "1", "w")
    assert type_text(shown, "") == []
    press(shown, "p")
    assert type_text(shown, "") == []
    press(shown, "w")
    assert type_text(shown, "x") == [Watch("x")]
    assert press(shown, "escape") == [Watch(None)]


# The screen


def test_the_screen_shows_every_table() -> None:
    shown = model()
    found = {}
    for number, tab in enumerate(TABS, 1):
        press(shown, str(number))
        found[tab] = drawn(shown)
        assert "\x1b" not in found[tab]
        assert "3 workers, process 42" in found[tab]
    assert "/rooms/·[2J" in found["streams"]
    assert "1m 15s" in found["streams"]
    assert "[bold]a" in found["topics"]  # and no markup
    assert "client disconnected" in found["ends"]
    assert "2 TLS" in found["kinds"]
    assert [word in found["workers"] for word in ("serves", "draining", "log_lagging")] == [True] * 3
    assert [text in found["nodes"] for text in ("one 1 (this one)", "two 2", "draining")] == [True] * 3
    shown.receive("snapshot", snapshot(problems=["draining"], topics=[]))
    press(shown, "2")
    assert "nothing to show" in drawn(shown)
    assert "draining" in drawn(shown)
    press(shown, "?")
    assert "publish an event" in drawn(shown)


def test_a_server_and_a_worker_that_do_not_answer_are_silent() -> None:
    now = 50.0
    shown = Model(clock=lambda: now)
    assert shown.silence is None
    shown.receive("snapshot", snapshot())
    now += 6  # three intervals
    assert "trio_sse live  no problems" in drawn(shown)
    now += 1
    assert "trio_sse no answer for 7 s  problems unknown" in drawn(shown)
    press(shown, " ")
    assert "trio_sse no answer for 7 s  problems unknown" in drawn(shown)
    shown.receive("snapshot", snapshot(interval=1.0))
    assert "trio_sse paused  no problems" in drawn(shown)
    now += 5
    assert shown.silence is None  # it has at least five seconds
    shown.status = "refused: why"
    now += 1
    assert "trio_sse refused: why  problems unknown" in drawn(shown)
    shown = model()
    press(shown, "5")
    assert "silent" not in drawn(shown)
    shown.receive("snapshot", snapshot(at=990.0 + SILENT + 1))
    assert drawn(shown).count("silent for 21.0 s") == 3
    panels = Path(trio_sse.__file__).parent / "static" / "console" / "panels.js"
    assert re.findall(r"const SILENT = (\d+);", panels.read_text(encoding="utf-8")) == [str(SILENT)]


@each_case("received", [0, 1])
@each_case(("seconds", "why"), [(1e6, "does not answer"), (0, "has ended the stream")])
def test_printing_once_fails_without_an_answer(received: int, seconds: float, why: str) -> None:
    class Silent:
        async def snapshots(self, *, reconnect: bool) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
            assert not reconnect
            for _ in range(received):
                yield "history", {"samples": []}
            await trio.sleep(seconds)

    async def main() -> None:
        with pytest.raises(StreamUnavailable, match=why):
            await print_once(cast(ConsoleSession, Silent()), as_json=True)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_the_screen_shows_a_watched_topic() -> None:
    shown = Model()
    assert "Waiting for the server" in drawn(shown)
    shown = model()
    shown.receive_watched("watching", {"topic": "a"})
    shown.receive_watched("event", {"id": "x.1", "event": "price", "data": "1\n2", "size": 3})
    shown.receive_watched("left_out", {"events": 7})
    text = drawn(shown)
    assert "Watching a" in text
    assert "price x.1 1·2" in text
    assert "7 events were left out" in text


@pytest.mark.parametrize(("width", "height"), [(30, 1), (40, 8), (80, 24)])
def test_the_screen_fits_a_small_terminal_without_unicode(width: int, height: int) -> None:
    shown = model()
    assert "trio_sse live" in drawn(shown, "ascii", height, width)
    lines = drawn(shown, "ascii", height, width).splitlines()
    assert max(map(len, lines)) <= width


def test_numbers_are_short() -> None:
    assert [count(None), count(1234.5)] == ["-", "1,234"]
    assert [size(n) for n in (None, 5, 2048, 20 * 1024**2, 5 * 1024**4)] == [
        *("-", "5 B", "2.0 KiB", "20 MiB", "5120 GiB")
    ]
    assert [seconds(n) for n in (None, 0.5, 5.25, 65, 7300)] == ["-", "500 ms", "5.2 s", "1m 05s", "2h 01m"]
    assert [percent(None), percent(0.5)] == ["-", "50 %"]
    assert printable("a\x1b\u202eb") == "a··b"
    assert sparkline([None, 1, 2], 5) == "   ▄█"
    assert sparkline([1, 0, 4], 2, is_ascii=True) == " @"
    assert sparkline([], 3) == "   "


@each_case(
    ("given", "url", "token"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000/_sse/", None),
        ("https://example.org/app/_sse/#token=a%20b", "https://example.org/app/_sse/", "a b"),
        ("http://example.org/app/", "http://example.org/app/_sse/", None),
        ("http://example.org/_sse", "http://example.org/_sse/", None),
    ],
)
def test_the_servers_link_has_the_token(given: str, url: str, token: str | None) -> None:
    assert split_link(given) == (url, token)


def test_another_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match="the URL must be like"):
        split_link("ftp://example.org")


# The program


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Return the URL of a server with a console."""
    with serving(APP, "--console", env={"TRIO_SSE_CONSOLE_TOKEN": TOKEN}) as (program, found):
        assert program.stdout.expect("Console: (.*)$")[1] == f"{found}/_sse/"
        yield found


@pytest.mark.integration
def test_top_shows_a_server_and_acts_on_it(url: str) -> None:
    with RawStream(f"{url}/rooms/a?x") as client, terminal("top", f"{url}/_sse/#token={TOKEN}") as screen:
        client.read_until(b"id: ")
        screen.expect(r"trio_sse live +no problems")
        screen.expect(r"Open streams +2 ")
        screen.expect(r"#1 +/rooms/a +127")
        screen.press("2")
        screen.expect(r"^rooms/a +1 ")
        screen.press("\r")
        screen.expect("Watching rooms/a")
        screen.press("p\rhello\r")
        screen.expect("Published to rooms/a")
        screen.expect(r"^message \S+ hello")
        client.read_until(b"data: hello")
        screen.press("\x1b")
        screen.expect(r"(?s)\A(?!.*Watching)")
        screen.press("1ey\r")
        screen.expect("Stream 1 was ended")
        client.rest()
        screen.press("3")
        screen.expect(r"#1 +revoked +/rooms/a")
        screen.press("q")
        assert screen.wait() == 0
        assert b"\x1b[?1049l" in screen.raw  # the screen is as it was before


@pytest.mark.integration
def test_ctrl_c_and_a_refused_token_end_it(url: str) -> None:
    with terminal("top", url, env={"TRIO_SSE_CONSOLE_TOKEN": TOKEN}) as screen:
        screen.expect("trio_sse live")
        screen.press("w\x1b[A\rwrong\x03")
        assert screen.wait() == 0
    with terminal("top", url) as screen:
        screen.expect("Token of the console:")
        screen.press("a-wrong-token-it-is\r")
        screen.expect("401 Unauthorized")
        assert screen.wait() == 1


@pytest.mark.integration
def test_without_a_terminal_it_prints_once(url: str) -> None:
    finished = run("top", f"{url}/#token={TOKEN}", "--json")
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["totals"]["open_streams"] == 1
    assert found["sample"]["events_rate"] is not None
    text = run("top", f"{url}/#token={TOKEN}").stdout
    assert all(
        part in text for part in ("trio_sse live", "Ended", "Refused", "Connections", "Bytes/s", "Routes")
    )
    refused = run("top", url)
    assert (refused.returncode, "needs its token" in refused.stderr) == (2, True)
    refused = run("top", f"{url}/elsewhere", "--token", "x")
    assert (refused.returncode, "404 Not Found: was it started with --console?" in refused.stderr) == (
        1,
        True,
    )
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # it does not listen
        for option in ("--once", "--json"):
            refused = run("top", f"127.0.0.1:{closed.getsockname()[1]}", "--token", "x", option)
            assert (refused.returncode, "Connect" in refused.stderr, refused.stdout) == (1, True, "")
    refused = run("top", "ftp://x", "--token", "x")
    assert (refused.returncode, "the URL must be" in refused.stderr) == (1, True)


@pytest.mark.integration
def test_serve_prints_a_link_with_a_token_that_it_has_made() -> None:
    with serving(APP, "--console") as (program, found):
        link = program.stdout.expect(r"Console: (.*)$")[1]
        assert link.startswith(f"{found}/_sse/#token=")
        assert run("top", link, "--json").returncode == 0
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        assert link.partition("=")[2] not in program.stderr.rest()
        assert program.stdout.rest().count(link) == 1
