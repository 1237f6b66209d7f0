"""Refusing new clients on a listening socket while those that wait are kept."""

from __future__ import annotations

import errno
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from trio_sse._process import handshakes

from ..support.cases import each_case
from ..support.handshakes import connecting

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can do it")


@contextmanager
def listening(family: int, address: object) -> Iterator[socket.socket]:
    with socket.socket(family) as made:
        made.bind(address)  # type: ignore[arg-type]
        made.listen()
        made.settimeout(5)
        yield made


def start_connecting(listening: socket.socket) -> socket.socket:
    client = socket.socket(listening.family)
    client.setblocking(False)
    client.connect_ex(listening.getsockname())
    return client


def outcome(client: socket.socket, seconds: float = 5) -> int | None:
    """Return the error number of an attempt to connect, 0 if it succeeded, or `None` if it goes on."""
    _, done, _ = select.select([], [client], [], seconds)
    return client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if done else None


@pytest.mark.integration
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_new_clients_are_not_connected_and_those_that_wait_are_kept(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if family == socket.AF_INET6 and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    with listening(family, (host, 0)) as server, socket.create_connection(server.getsockname()[:2]) as early:
        handshakes.refuse_handshakes([server])
        late = start_connecting(server)
        connected, _ = server.accept()
        with connected, late:
            early.sendall(b"hello")
            assert connected.recv(10) == b"hello"
            connected.sendall(b"and back")
            assert early.recv(10) == b"and back"
            assert outcome(late, 0.05) is None
            server.close()
            assert outcome(late) == errno.ECONNREFUSED


@pytest.mark.integration
def test_a_handshake_that_has_begun_is_completed() -> None:
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as server:
        with connecting(server.getsockname()) as client:
            assert outcome(client, 0.05) is None
            handshakes.refuse_handshakes([server])
        with client:
            assert outcome(client) == 0
            client.sendall(b"hello")
            connected, _ = server.accept()
            with connected:
                assert connected.recv(10) == b"hello"


def test_a_unix_socket_refuses_new_clients_and_keeps_those_that_wait(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with listening(socket.AF_UNIX, path) as server, socket.socket(socket.AF_UNIX) as early:
        early.connect(path)
        handshakes.refuse_handshakes([server])
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
            late.connect(path)
        connected, _ = server.accept()
        with connected:
            early.sendall(b"hello")
            assert connected.recv(10) == b"hello"


def test_a_socket_on_which_that_fails_is_left_alone() -> None:
    with socket.socket() as closed:
        closed.close()
        handshakes.refuse_handshakes([closed])


@each_case(("host", "is_local"), [("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("::", False)])
def test_only_clients_that_are_not_local_need_time(host: str, is_local: bool) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        server.bind((host, 0))
        assert (handshakes.handshake_seconds(server) == 0) == is_local
