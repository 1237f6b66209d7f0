"""The README's first example, pasted as it stands, and every example of the folder, run as a user would."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio_websocket

ROOT = Path(__file__).parents[2]


@contextmanager
def running(*command: str, cwd: Path = ROOT) -> Iterator[str]:
    """Run a program that prints its URL; give the URL's scheme, host and port."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, "PORT": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://[0-9.]+:\d+", process.stdout.readline())
        assert found, "it printed no URL"
        yield found[0]
    finally:
        process.terminate()
        process.wait(20)
        assert process.stdout is not None
        process.stdout.close()


def lines(response: httpx.Response, count: int) -> list[str]:
    """Give the first lines of a stream that are not empty."""
    found = []
    for line in response.iter_lines():
        if line:
            found.append(line)
            if len(found) == count:
                break
    return found


def test_the_readme_example_runs_as_pasted(tmp_path: Path) -> None:
    example = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (tmp_path / "app.py").write_text(example.replace("8000", str(port)))  # that one may be taken here
    process = subprocess.Popen([sys.executable, "app.py"], cwd=tmp_path)
    try:
        transport = httpx.HTTPTransport(retries=5)  # until it listens
        with (
            httpx.Client(transport=transport, timeout=10) as client,
            client.stream("GET", f"http://127.0.0.1:{port}/clock") as response,
        ):
            identifier, event, data = lines(response, 3)
    finally:
        process.terminate()
        process.wait(20)
    assert re.fullmatch(r"id: [0-9a-f]{8}\.[0-9]+", identifier)
    assert event == "event: tick"
    assert re.fullmatch(r'data: \{"time":[0-9.]+\}', data)


def test_broadcast() -> None:
    with running("examples/broadcast.py") as url, httpx.stream("GET", f"{url}/clock", timeout=10) as response:
        assert lines(response, 2)[1] == "event: tick"


def test_countdown_goes_on_where_it_was_cut_off() -> None:
    with (
        running("examples/countdown.py") as url,
        httpx.stream("GET", f"{url}/countdown/9", headers={"Last-Event-ID": "2"}, timeout=10) as response,
    ):
        assert lines(response, 5) == [
            "id: 1",
            "event: tick",
            'data: {"n":1}',
            "event: done",
            "data: lift-off",
        ]


async def test_websocket_gives_topics_and_an_echo() -> None:
    with running("examples/websocket.py") as url:
        port = int(url.rpartition(":")[2])
        client = partial(trio_websocket.open_websocket, "127.0.0.1", port, use_ssl=False)
        async with client("/echo") as connection:
            await connection.send_message(b"bytes")
            assert await connection.get_message() == b"bytes"
        async with client("/ws", subprotocols=["trio-sse.v1"]) as connection:
            await connection.send_message('{"type":"subscribe","topics":["chat"]}')
            assert await connection.get_message() == '{"type":"topics","topics":["chat"]}'
            await connection.send_message('{"type":"publish","topic":"chat","data":"hello"}')
            assert '"data":"hello"' in await connection.get_message()


def test_embedded_tells_each_window_who_is_here() -> None:
    with running("examples/embedded.py") as url:
        assert "Windows here" in httpx.get(url).text
        with httpx.stream("GET", f"{url}/presence", timeout=10) as response:
            assert '"count":1' in lines(response, 3)[2]


def test_answer_streams_over_post_and_refuses_nothing_asked() -> None:
    with running("examples/answer.py") as url:
        assert httpx.post(f"{url}/answer", content=b" ").status_code == 400
        with httpx.stream("POST", f"{url}/answer", content=b"why?", timeout=10) as response:
            assert lines(response, 2) == ["event: token", 'data: {"token":"Because"}']


@pytest.mark.parametrize("text", ["hello", "grüß dich"])
def test_served_by_the_program(text: str) -> None:
    with running("-m", "trio_sse", "serve", "examples.served:server", "--bind", "127.0.0.1:0") as url:
        with httpx.stream("GET", f"{url}/rooms/one", timeout=10) as response:
            assert httpx.post(f"{url}/rooms/one", content=text.encode()).status_code == 204
            assert lines(response, 3)[2] == f"data: {text}"
        assert httpx.post(f"{url}/rooms/{'x' * 300}", content=b"x").status_code == 400


def test_quart_app_lets_those_talk_who_are_logged_in() -> None:
    with running("examples/quart_app.py") as url, httpx.Client(base_url=url, timeout=10) as client:
        assert client.get("/stream").status_code == 401
        assert "Your name" in client.get("/").text
        assert client.post("/login", data={"name": "Ada"}, follow_redirects=True).status_code == 200
        with client.stream("GET", "/stream") as response:
            assert lines(response, 2)[1] == 'data: {"name":"server","text":"hello Ada"}'
            assert client.post("/say", data={"text": "hi"}).status_code == 204


def test_starlette_app_tells_the_state_and_what_changes() -> None:
    with running("examples/starlette_app.py") as url:
        assert "Highest bid" in httpx.get(url).text
        assert httpx.get(f"{url}/lots/3").status_code == 404
        with httpx.stream("GET", f"{url}/lots/1", timeout=10) as response:
            assert httpx.post(f"{url}/lots/1").status_code == 204
            found = lines(response, 5)
            assert [line for line in found if not line.startswith("id: ")] == [
                "event: bid",
                'data: {"amount":0}',
                "event: bid",
                'data: {"amount":10}',
            ]


def test_embedded_app_serves_its_page_and_the_worker_s_progress() -> None:
    with running("examples/embedded_app.py") as url:
        assert "Hashing" in httpx.get(url).text
        with httpx.stream("GET", f"{url}/progress", timeout=10) as response:
            assert lines(response, 2)[1] == "event: progress"
