"""Each example, run as its user would run it: `python -m examples.NAME`."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio_websocket

from trio_sse import Connection, Server

from ..support import http
from ..support.programs import ROOT, environment, example, running
from ..support.waiting import SECONDS
from ..support.websocket_client import HANDSHAKE

pytestmark = pytest.mark.integration

EXAMPLES = ROOT / "examples"
README = (EXAMPLES / "README.md").read_text()

PAGES = {
    "agent": "Ask about this documentation",
    "ai_answer": "Your question",
    "chat": "Your name",
    "dashboard": "Latency",
    "datastar_counter": "Clicks from all windows",
    "feed": "Filter lines",
    "file_hashing": "Checksums",
    "htmx_votes": "Tea, please",
    "notifications": "Mark as read",
    "progress": "Hash the standard library",
}


def lines(response: httpx.Response, count: int) -> list[str]:
    """Return the first lines of a stream that are not empty, without its first cursor."""
    found: list[str] = []
    for line in response.iter_lines():
        if line:
            found.append(line)
            if len(found) == count:
                break
        elif len(found) == 1:
            found.clear()  # a block of an id alone
    return found


def test_the_readme_lists_each_example_and_no_other() -> None:
    files = {file.stem for file in EXAMPLES.glob("*.py") if file.stem != "__init__"}
    listed = re.findall(r"^\| `python -m examples\.(\w+)", README, re.MULTILINE)
    assert sorted(listed) == sorted(files)


def test_the_readme_lists_each_configuration_of_a_proxy_and_no_other() -> None:
    files = {file.name for file in (EXAMPLES / "proxies").iterdir()}
    listed = re.findall(r"^\| \[`proxies/([\w.]+)`\]", README, re.MULTILINE)
    assert sorted(listed) == sorted(files)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_the_docstring_of_an_example_says_how_to_run_it(file: Path) -> None:
    if file.stem != "__init__":
        docstring = file.read_text().split('"""')[1]
        assert f"`python -m examples.{file.stem}" in docstring


def test_broadcast() -> None:
    with example("broadcast") as (_, url), http.stream("GET", f"{url}/clock") as response:
        assert lines(response, 2)[1] == "event: tick"


def test_two_paces_sends_alarms_and_readings() -> None:
    with example("two_paces") as (_, url), http.stream("GET", f"{url}/house") as response:
        found = lines(response, 20)
        assert "event: alarm" in found
        assert any('"celsius"' in line for line in found)


def test_countdown_continues_where_the_client_disconnected() -> None:
    with (
        example("countdown") as (_, url),
        http.stream("GET", f"{url}/countdown/9", headers={"Last-Event-ID": "2"}) as response,
    ):
        assert lines(response, 5) == [
            "id: 1",
            "event: tick",
            'data: {"n":1}',
            "event: done",
            "data: lift-off",
        ]


def test_forgetful_room_is_found_out() -> None:
    with running([sys.executable, "-m", "examples.forgetful_room"]) as program:
        program.stdout.expect(r"cancel at each of \d+ steps: nothing is left")
        program.stdout.expect(r"still in the room: .*\n +interrupted by disconnect at step \d+")
        assert program.wait() == 0


@pytest.mark.parametrize(
    ("name", "path", "event"),
    [
        ("openai_compatible", "v1/responses", "response.output_text.delta"),
        ("asyncio_model", "answers", "append"),
    ],
)
def test_a_model_answers_word_by_word(name: str, path: str, event: str) -> None:
    with example(name) as (_, url):
        answer = http.post(f"{url}/{path}", content='{"input": "Hello!", "stream": true}').text
        assert "Hello!" in answer
        assert answer.count(f"event: {event}") > 5


def test_clock_serves_its_page_its_script_and_the_time() -> None:
    with example("clock") as (_, url):
        assert "Countdown" in http.get(url).text
        assert "TrioSSE" in http.get(f"{url}/trio-sse.js").text
        with http.stream("GET", f"{url}/clock") as response:
            assert any('"server_time"' in line for line in lines(response, 3))


def test_tracing_prints_spans() -> None:
    with example("tracing") as (program, url), http.stream("GET", f"{url}/news") as response:
        http.post(f"{url}/news", content="hello")
        assert "data: hello" in lines(response, 3)
        for name in ("publish", "deliver"):  # one ends after the other
            program.stdout.expect(f'"name": "{name}"')


async def test_websocket_sends_topics_and_an_echo() -> None:
    with example("websocket") as (_, url):
        port = int(url.rpartition(":")[2])
        client = partial(trio_websocket.open_websocket, "127.0.0.1", port, use_ssl=False)
        async with client("/echo") as connection:
            await connection.send_message(b"bytes")
            assert await connection.get_message() == b"bytes"
        async with client("/ws", subprotocols=["trio-sse.v1"]) as connection:
            await connection.send_message('{"type":"subscribe","topics":["chat"]}')
            answer = json.loads(await connection.get_message())
            assert (answer["type"], answer["topics"]) == ("topics", ["chat"])
            await connection.send_message('{"type":"publish","topic":"chat","data":"hello"}')
            assert '"data":"hello"' in await connection.get_message()


def test_singleton_nodes_pass_the_job_to_the_other_node() -> None:
    with example("singleton_nodes", env={"SECONDS": "3"}) as (program, first):
        other = program.stdout.expect(r"http://\S+")[0]
        program.stdout.expect("the first node has ended")
        found: list[str] = []
        for url in (first.removesuffix("/jobs"), other.removesuffix("/jobs")):
            with suppress(httpx.ConnectError), http.stream("GET", f"{url}/jobs") as response:
                found += lines(response, 30)
        assert any('"node":"second"' in line for line in found)
        assert any('"elapsed"' in line for line in found)


def test_run_nodes_go_on_with_a_run_of_the_other() -> None:
    with example("run_nodes", env={"SECONDS": "1", "UPTO": "3"}) as (program, first):
        other = program.stdout.expect(r"http://\S+/count")[0]
        with http.stream("GET", f"{first.removesuffix('/count')}/count") as response:
            assert "event: run" in lines(response, 2)
        with http.stream("GET", other) as response:
            text = "".join(response.iter_lines())
        assert "".join(re.findall(r'"text":"([^"]*)"', text)) == "0 1 2 "
        assert '"result":"counted by' in text


def test_presence_nodes_show_the_names_of_both() -> None:
    with example("presence_nodes") as (program, first):
        second = program.stdout.expect(r"http://\S+")[0].rstrip("/")
        with (
            http.stream("GET", f"{first}/room?name=ada"),
            http.stream("GET", f"{second}/room?name=bob") as response,
        ):
            found = ""
            for line in response.iter_lines():
                found += line
                if '"ada":{"node":1}' in found and '"bob":{"node":2}' in found:
                    break
        assert http.get(f"{first}/room").status_code == 400
        assert "Who is here" in http.get(first).text


def test_follow_prints_a_stream_and_what_happens_to_it(streams: str) -> None:
    command = [sys.executable, "-m", "examples.follow", f"{streams}/portions/3"]
    finished = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=SECONDS
    )
    assert finished.stdout.splitlines() == [f"message {number}" for number in (1, 2, 3)]
    assert finished.stderr.count("[open]") == 1
    assert finished.stderr.endswith("[closed] the server answered 204: no more events\n")


def test_revocation_logs_a_user_out_on_both_nodes() -> None:
    with example("revocation") as (program, first):
        second = program.stdout.expect(r"http://[^/]+")[0]
        urls = [f"{node}/live?token=ada-1" for node in (first, second)]
        with http.stream("GET", urls[0]) as here, http.stream("GET", urls[1]) as there:
            received = [response.iter_lines() for response in (here, there)]
            for found in received:
                assert "event: tick" in found
            assert http.get(f"{first}/who").text.startswith("ada, ")
            assert "1 streams ended here" in http.post(f"{first}/logout/ada").text
            for found in received:
                with pytest.raises(httpx.RemoteProtocolError):
                    list(found)
        assert [http.get(url).status_code for url in urls] == [401, 401]
        with http.stream("GET", f"{second}/live?token=ada-2") as again:
            assert again.status_code == 200


def test_embedded_counts_the_open_windows() -> None:
    with example("embedded") as (_, url):
        assert "Open windows" in http.get(url).text
        with http.stream("GET", f"{url}/presence") as response:
            assert '"count":1' in lines(response, 3)[2]


def test_answer_streams_over_post_and_refuses_an_empty_question() -> None:
    with example("answer") as (_, url):
        assert http.post(f"{url}/answer", content=b" ").status_code == 400
        with http.stream("POST", f"{url}/answer", content=b"why?") as response:
            assert lines(response, 2) == ["event: token", 'data: {"token":"Because"}']


def test_served_sends_what_is_posted_to_a_room() -> None:
    with example("served") as (_, url):
        for text in ("hello", "grüß dich"):
            with http.stream("GET", f"{url}/rooms/one") as response:
                assert http.post(f"{url}/rooms/one", content=text.encode()).status_code == 204
                assert lines(response, 3)[2] == f"data: {text}"
        assert http.post(f"{url}/rooms/one", content=b"\xff").status_code == 400
        assert http.post(f"{url}/rooms/{'x' * 300}", content=b"x").status_code == 400


def test_notifications_and_chat_refuse_what_is_no_text_or_message() -> None:
    with example("notifications") as (_, url), http.Client(base_url=url) as client:
        assert client.post("/login", content=b"\xff").status_code == 400
        assert client.post("/login", content=b"ada").status_code == 204
        for body in (b"\xff", b"[]", b'{"to":1,"text":""}', b'{"to":"bob","text":"\\ud800"}', b"[" * 3000):
            assert client.post("/notify", content=body).status_code == 400
        assert client.post("/notify", content=b'{"to":"bob","text":"hi"}').status_code == 204
    with example("chat") as (_, url):
        assert http.post(f"{url}/rooms/lobby", content=b"\xff").status_code == 204


def test_quart_app_lets_users_talk_who_are_logged_in() -> None:
    with example("quart_app") as (_, url), http.Client(base_url=url) as client:
        assert client.get("/stream").status_code == 401
        assert "Your name" in client.get("/").text
        assert client.post("/login", data={"name": "Ada"}, follow_redirects=True).status_code == 200
        with client.stream("GET", "/stream") as response:
            assert lines(response, 2)[1] == 'data: {"name":"server","text":"hello Ada"}'
            assert client.post("/say", data={"text": "hi"}).status_code == 204


async def test_starlette_websocket_is_a_chat_room_that_refuses_strangers() -> None:
    with example("starlette_websocket") as (_, url):
        assert "Chat" in http.get(url).text
        port = int(url.rpartition(":")[2])
        client = partial(trio_websocket.open_websocket, "127.0.0.1", port, use_ssl=False)
        async with client("/chat?name=eve") as eve, client("/chat?name=bob") as bob:
            assert await eve.get_message() == "eve is here"
            assert await eve.get_message() == await bob.get_message() == "bob is here"
            await bob.send_message("hello")
            assert await eve.get_message() == "bob: hello"
            await bob.aclose()
            assert await eve.get_message() == "bob has left"
        handshake = dict(line.split(": ") for line in HANDSHAKE)
        response = http.get(f"{url}/chat", headers=handshake)
        assert (response.status_code, response.text) == (401, "who are you?")


def test_starlette_app_sends_the_state_and_its_changes() -> None:
    with example("starlette_app") as (_, url):
        assert "Highest bid" in http.get(url).text
        assert http.get(f"{url}/lots/3").status_code == 404
        with http.stream("GET", f"{url}/lots/1") as response:
            assert http.post(f"{url}/lots/1").status_code == 204
            found = lines(response, 6)
            assert [line for line in found if not line.startswith("id: ")] == [
                "event: bid",
                'data: {"amount":0}',
                "event: bid",
                'data: {"amount":10}',
            ]


def test_embedded_app_serves_its_page_and_the_worker_s_progress() -> None:
    with example("embedded_app") as (_, url):
        assert "Hashing" in http.get(url).text
        with http.stream("GET", f"{url}/progress") as response:
            assert lines(response, 2)[1] == "event: progress"


def follow_run(response: httpx.Response) -> Iterator[tuple[str, Any]]:
    """Yield the types and data of a run's events."""
    event = ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            event = line[7:]
        elif line.startswith("data: "):
            yield event, json.loads(line[6:])


def test_agent_uses_its_tools_and_is_joined_after_its_end() -> None:
    question = "How does a client resume after a disconnect?"
    with example("agent", env={"PAUSE": "0.002"}) as (_, url):
        assert http.post(f"{url}/tasks", content=b" ").status_code == 400
        with http.stream("POST", f"{url}/tasks", content=question) as response:
            started = list(follow_run(response))
        with http.stream("GET", f"{url}/tasks/{started[0][1]['id']}") as response:
            joined = list(follow_run(response))
    plan, answer = (data for event, data in joined if event == "text")
    assert plan["name"] == "plan"
    assert "client" in answer["text"]
    tools = [data["name"] for event, data in joined if event == "tool_call"]
    assert tools == ["search", "read", "read", "read"]
    assert [event for event, _ in joined if event == "tool_result"] == ["tool_result"] * 4
    assert joined[-1] == started[-1]
    assert (joined[-1][0], joined[-1][1]["status"]) == ("end", "finished")


def test_file_hashing_hashes_what_is_asked_for_and_can_be_cancelled(tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    for name in ("a", "b"):
        (tmp_path / "few" / name).write_text(name * 300_000)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(50_000_000)
    sums = [
        f"{hashlib.sha256((tmp_path / 'few' / name).read_bytes()).hexdigest()}  few/{name}\n" for name in "ab"
    ]
    with example("file_hashing", str(tmp_path)) as (_, url):
        assert http.get(f"{url}/folders").json() == {"root": str(tmp_path), "folders": ["few"]}
        for body, status in (
            ({"folder": "../", "pace": 1}, 404),
            ({"folder": "few", "pace": 0}, 404),
            ([], 400),
        ):
            assert http.post(f"{url}/jobs", json=body).status_code == status
        with http.stream("POST", f"{url}/jobs", json={"folder": "few", "pace": 1000}) as response:
            *_, (event, end) = follow_run(response)
        total = hashlib.sha256("".join(sums).encode()).hexdigest()
        assert (event, end) == ("end", {"status": "finished", "result": {"sha256": total}})
        with http.stream("POST", f"{url}/jobs", json={"folder": "large", "pace": 1}) as response:
            events = follow_run(response)
            run = next(events)[1]["id"]
            assert next(data["bytes"] for event, data in events if event == "state") == 50_000_000
            assert http.post(f"{url}/jobs/{run}/cancel").status_code == 200
            *_, (event, end) = events
        assert (event, end) == ("end", {"status": "cancelled", "reason": "cancelled"})


async def test_ai_answer_s_real_model_streams_by_openai_s_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    from examples.ai_answer import real_model

    server = Server()
    asked: list[dict[str, Any]] = []

    @server.route("/chat/completions", methods=["POST"])
    async def complete(connection: Connection) -> None:
        asked.append(json.loads(connection.request.body))
        for word in ("one ", "two"):
            await connection.send({"choices": [{"index": 0, "delta": {"content": word}}]})
        await connection.send({"choices": []})
        await connection.send("[DONE]")

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(server.serve, "127.0.0.1", 0)
            monkeypatch.setenv("MODEL_URL", f"http://127.0.0.1:{addresses[0][1]}")
            monkeypatch.setenv("MODEL", "m")
            async with aclosing(real_model("why?")) as words:
                assert [word async for word in words] == ["one ", "two"]
            nursery.cancel_scope.cancel()
    assert asked == [{"model": "m", "messages": [{"role": "user", "content": "why?"}], "stream": True}]


def check_page(name: str, url: str) -> None:
    """Check that an example serves its page, and the files that the page loads."""
    page = http.get(url)
    assert PAGES[name] in page.text
    for path in re.findall(r'(?:src|rel="stylesheet" href)="(/[^"]+)"', page.text):
        assert http.get(f"{url}{path}").status_code == 200, path


@pytest.mark.parametrize("name", sorted(PAGES.keys() - {"feed"}))
def test_an_example_with_a_page_serves_the_page_and_its_files(name: str) -> None:
    with example(name) as (_, url):
        check_page(name, url)


def test_the_examples_with_a_page_are_all_here() -> None:
    pages = {file.stem for file in (EXAMPLES / "pages").glob("*.html")}
    assert pages == PAGES.keys()


def test_feed_follows_a_file(tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.write_text("first\nsecond\n")
    with example("feed", str(file)) as (_, url):
        check_page("feed", url)
        with http.stream("GET", f"{url}/lines") as response:
            assert [line for line in lines(response, 6) if line.startswith("data: ")] == [
                "data: first",
                "data: second",
            ]
