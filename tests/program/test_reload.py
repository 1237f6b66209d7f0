"""What the program tells its service manager, and how it loads certificates again, in each of its modes."""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from trio_sse._program.service_manager import ServiceManager

from ..support import http
from ..support.cases import each_case
from ..support.programs import Program, serving
from ..support.waiting import SECONDS

SERVER = "tests.support.apps.worker_app:server"
APP = "tests.support.apps.members:app"


class Manager:
    """A service manager's socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(SECONDS)
        self._socket.bind(str(path))
        self.environment = {"NOTIFY_SOCKET": str(path)}

    def expect(self, line: str) -> dict[str, str]:
        """Receive messages until one begins with a line; return its fields."""
        while True:
            lines = self._socket.recv(4096).decode().split("\n")
            if lines[0] == line:
                return dict(each.split("=", 1) for each in lines)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


# The messages


def test_messages(manager: Manager) -> None:
    environment = {**manager.environment, "HOME": "/"}
    service = ServiceManager(environment)
    assert environment == {"HOME": "/"}  # a child does not speak for this process
    assert service.watchdog_seconds == float("inf")
    service.ready("Serving")
    assert manager.expect("READY=1")["STATUS"] == "Serving"
    service.reloading()
    assert int(manager.expect("RELOADING=1")["MONOTONIC_USEC"]) > 0
    service.stopping()
    manager.expect("STOPPING=1")


def test_an_abstract_socket() -> None:
    name = f"trio-sse-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiving:
        receiving.bind(f"\0{name}")
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).alive()
        receiving.settimeout(SECONDS)
        assert receiving.recv(100) == b"WATCHDOG=1"


@each_case(
    ("pid", "microseconds", "seconds"),
    [
        ("", "3000000", 1.5),
        ("own", "3000000", 1.5),
        ("1", "3000000", float("inf")),
        ("", "", float("inf")),
        ("", "0", float("inf")),
        ("", "soon", float("inf")),
    ],
)
def test_the_watchdog_is_told_twice_as_often_as_it_has_to_be(
    pid: str, microseconds: str, seconds: float
) -> None:
    pid = str(os.getpid()) if pid == "own" else pid
    environment = {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": microseconds, "WATCHDOG_PID": pid}
    assert ServiceManager(environment).watchdog_seconds == seconds


@pytest.mark.parametrize("address", ["vsock:2:1234", "/nowhere/notify"])
def test_a_manager_that_cannot_be_reached_is_logged(address: str, caplog: pytest.LogCaptureFixture) -> None:
    ServiceManager({"NOTIFY_SOCKET": address}).stopping()
    (record,) = caplog.records
    assert record.levelname == "WARNING"


def test_without_a_manager_nothing_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    ServiceManager().stopping()
    ServiceManager({}).stopping()
    assert not caplog.records


# The program


class Renewed:
    """A certificate that can be renewed, and a client that says which one it sees."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.file = folder / "both.pem"
        self.context = ssl.create_default_context()
        self.authority.configure_trust(self.context)
        self.renew()

    def renew(self) -> None:
        issued = self.authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(self.file)

    def seen(self, url: str) -> bytes:
        """Return the certificate of a new connection."""
        parts = httpx.URL(url)
        with (
            socket.create_connection((parts.host, parts.port or 0), SECONDS) as plain,
            self.context.wrap_socket(plain, server_hostname=parts.host) as secure,
        ):
            found = secure.getpeercert(True)
            assert found is not None
            return found


def publish_on_server(client: httpx.Client, text: str) -> None:
    client.post("/live", content=text).raise_for_status()


def publish_on_app(client: httpx.Client, text: str) -> None:
    client.post("/publish", content=text).raise_for_status()


def log_in(client: httpx.Client) -> None:
    client.post("/login", data={"name": "Ada"})


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["one process", "workers", "hypercorn"])
def test_certificates_are_loaded_again_while_connections_stay(
    tmp_path: Path, manager: Manager, mode: str
) -> None:
    certificate = Renewed(tmp_path)
    target, path, options = SERVER, "/live", ["--certfile", str(certificate.file)]
    publish: Callable[[httpx.Client, str], None] = publish_on_server
    match mode:
        case "workers":
            options += ["--workers", "2", "--log", f"sqlite:{tmp_path / 'log.db'}"]
        case "hypercorn":
            target, path, publish = APP, "/news", publish_on_app
            options += ["--host", "hypercorn"]
    env = {**manager.environment, "WATCHDOG_USEC": "200000"}
    with (
        serving(target, *options, env=env) as (program, url),
        http.Client(base_url=url, verify=certificate.context, http2=True) as client,
    ):
        manager.expect("READY=1")
        manager.expect("WATCHDOG=1")
        if mode == "hypercorn":
            log_in(client)
        with client.stream("GET", path) as response:
            assert response.http_version == "HTTP/2"
            lines = response.iter_lines()
            next(lines)
            first = certificate.seen(url)

            certificate.renew()
            program.send(signal.SIGHUP)
            manager.expect("RELOADING=1")
            manager.expect("READY=1")
            for _ in range(3 if mode == "workers" else 1):  # the supervisor and each worker
                program.stderr.expect("loaded the certificates again")

            second = certificate.seen(url)
            assert second != first
            certificate.file.write_text("broken")
            program.send(signal.SIGHUP)
            program.stderr.expect(r"ERROR .*cannot use the certificate .*stay as they are$")
            manager.expect("READY=1")
            assert certificate.seen(url) == second

            with http.Client(base_url=url, verify=certificate.context) as other:
                publish(other, "still here")
            assert any("still here" in line for line in lines)
        stop(program, manager)


def stop(program: Program, manager: Manager) -> None:
    program.send(signal.SIGTERM)
    manager.expect("STOPPING=1")
    assert program.wait() == 0
    assert "Traceback" not in program.stderr.rest()
