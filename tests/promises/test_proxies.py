"""The proxies' configurations in examples/proxies: real proxies before two instances of a server."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from ..support import http
from ..support.ports import free_port
from ..support.programs import ROOT, Program, RawStream, running, serving
from ..support.requirements import find, needs
from ..support.waiting import until_blocking

pytestmark = pytest.mark.integration

CONFIGURATIONS = ROOT / "examples" / "proxies"
PROXIES = ("nginx", "haproxy")


class Site(NamedTuple):
    """A proxy's URL, and the instances behind it."""

    url: str
    instances: list[tuple[Program, str]]

    def open_streams(self) -> list[int]:
        """Ask the instances that live for how many streams they have."""
        return [
            int(http.get(f"{url}/streams").text)
            for program, url in self.instances
            if program.process.poll() is None
        ]


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def configured(name: str, folder: Path, port: int, ports: list[int]) -> list[str | Path]:
    """Write the configuration with other ports, and with three seconds instead of 75; give the command."""
    file = CONFIGURATIONS / {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}[name]
    text = file.read_text().replace("75s", "3s").replace("8080", f"{port}")
    for before, now in zip(("8000", "8001"), ports, strict=True):
        text = text.replace(f":{before}", f":{now}")
    if name == "nginx":
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
        text = text.replace("http {", f"http {{ access_log off; {paths}", 1)
        text = f"pid {folder / 'pid'}; error_log stderr; daemon off;\n{text}"
    (folder / file.name).write_text(text)
    program = find(name)
    if name == "nginx":
        return [program, "-p", folder, "-e", "stderr", "-c", folder / file.name]
    return [program, "-db", "-f", folder / file.name]


@contextmanager
def site(name: str, folder: Path) -> Iterator[Site]:
    log = f"sqlite:{folder / 'log.db'}"
    with ExitStack() as stack:
        instances = [
            stack.enter_context(
                serving("tests.support.apps.worker_app:server", "--log", log, "--keepalive", "1")
            )
            for _ in range(2)
        ]
        ports = [int(url.rpartition(":")[2]) for _, url in instances]
        port = free_port()
        stack.enter_context(running(configured(name, folder, port, ports)))
        until_blocking(lambda: is_listening(port))
        yield Site(f"http://127.0.0.1:{port}", instances)


@pytest.fixture(params=[pytest.param(name, marks=needs(name)) for name in PROXIES])
def behind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with site(request.param, tmp_path) as made:
        yield made


def test_events_come_at_once_and_idle_streams_stay(behind: Site) -> None:
    with ExitStack() as stack:
        streams = [stack.enter_context(RawStream(f"{behind.url}/live")) for _ in range(4)]
        for stream in streams:
            stream.read_until(b"\r\n\r\n")
        until_blocking(lambda: behind.open_streams() == [2, 2])  # each instance has its share
        time.sleep(4)  # longer than the proxy's timeouts, but with keepalives
        for number in range(3):
            http.post(f"{behind.url}/live", content=f"event {number}").raise_for_status()
            for stream in streams:  # the next one is not needed for this one to come
                stream.read_until(f"data: event {number}\n\n".encode())


def test_a_client_that_leaves_is_noticed_behind_the_proxy(behind: Site) -> None:
    with RawStream(f"{behind.url}/live") as stream:
        stream.read_until(b"\r\n\r\n")
        until_blocking(lambda: sum(behind.open_streams()) == 1)
    until_blocking(lambda: sum(behind.open_streams()) == 0)


def test_clients_of_an_instance_that_drains_reconnect_to_the_other(behind: Site) -> None:
    with RawStream(f"{behind.url}/live") as stream:
        stream.read_until(b"\r\n\r\n")
        until_blocking(lambda: sum(behind.open_streams()) == 1)
        http.post(f"{behind.url}/live", content=b"before").raise_for_status()
        received = stream.read_until(b"data: before\n\n")
        *_, id = re.findall(rb"id: (\S+)\n", received)
        (draining,) = (p for p, url in behind.instances if http.get(f"{url}/streams").text == "1")
        draining.send(signal.SIGTERM)
        assert re.search(rb"retry: \d+\n", stream.rest())
    assert draining.wait() == 0
    until_blocking(lambda: http.post(f"{behind.url}/live", content=b"after").status_code == 204)
    with http.stream("GET", f"{behind.url}/live", headers={"Last-Event-ID": id.decode()}) as response:
        assert response.status_code == 200
        assert "data: after" in response.iter_lines()
