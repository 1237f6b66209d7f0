"""Listening and accepting: addresses, bounds on streams, and running out of file descriptors."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from trio_sse import Connection, HTTPException, Server
from trio_sse._server.listeners import Acceptor

from ..support.client import Client
from ..support.handshakes import connecting
from ..support.hostile import Target, logged
from ..support.leaks import CAN_LIST_DESCRIPTORS, MakeServer, open_descriptors
from ..support.serving import in_memory, on_sockets
from ..support.waiting import SECONDS, until


def tcp_listener(host: str = "127.0.0.1") -> socket.socket:
    """Listen on a free port, as other programs do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.bind((host, 0))
    listening.listen()
    return listening


@contextlib.asynccontextmanager
async def on_listeners(
    server: Server, *listeners: trio.SocketListener | socket.socket
) -> AsyncIterator[list[tuple[object, ...]]]:
    """Serve on listeners; yield their addresses."""
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            yield await nursery.start(server.serve_listeners, listeners)
            nursery.cancel_scope.cancel()


async def say(stream: trio.abc.Stream) -> bytes:
    """Return one whole response over a stream, and close it."""
    async with Client(stream) as client:
        return await client.sized_body(await client.get("/echo/a"))


# Addresses


async def test_serve_reports_its_addresses(make_server: MakeServer) -> None:
    target = Target(make_server)

    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(partial(target.server.serve, "localhost", 0))
        ports = [int(str(address[1])) for address in addresses]
        answers = [
            await say(await trio.open_tcp_stream(str(address[0]), int(str(address[1]))))
            for address in addresses
        ]
        nursery.cancel_scope.cancel()

    assert all(ports)
    assert answers == [b"a"] * len(addresses)


async def test_an_address_that_is_taken_is_an_error(make_server: MakeServer) -> None:
    taken = tcp_listener()

    with taken, pytest.raises(OSError, match="in use"):
        await make_server().serve("127.0.0.1", taken.getsockname()[1])


async def test_listeners_of_trio_are_served(make_server: MakeServer) -> None:
    target = Target(make_server)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async with on_listeners(target.server, *listeners) as addresses:
        assert await say(await trio.open_tcp_stream(*addresses[0])) == b"a"  # type: ignore[arg-type]

    assert listeners[0].socket.fileno() == -1


async def test_sockets_of_the_standard_library_are_served(make_server: MakeServer) -> None:
    target = Target(make_server)
    first, second = tcp_listener(), tcp_listener()

    async with on_listeners(target.server, first, second) as addresses:
        answers = [await say(await trio.open_tcp_stream(*address)) for address in addresses]  # type: ignore[arg-type]

    assert answers == [b"a", b"a"]
    assert (first.fileno(), second.fileno()) == (-1, -1)


async def test_ipv6_is_served(make_server: MakeServer, caplog: pytest.LogCaptureFixture) -> None:
    target = Target(make_server)
    try:
        listening = tcp_listener("::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    caplog.set_level("INFO", logger="trio_sse.access")

    async with on_listeners(target.server, listening) as addresses:
        stream = await trio.open_tcp_stream(str(addresses[0][0]), int(str(addresses[0][1])))
        async with Client(stream) as client:
            await client.get("/stream")
            await client.rest()

    assert "peer=[::1]:" in logged(caplog)[0]


async def test_a_unix_socket_is_served(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("INFO", logger="trio_sse.access")
    target = Target(make_server, max_connections_per_host=1)
    path = str(tmp_path / "socket")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()

    async with on_listeners(target.server, listening) as addresses:
        async with Client(await trio.open_unix_socket(path)) as client:
            await client.get("/topics/a")
            await target.server.hub.publish("a", "by file")
            event = await client.event()
        await until(lambda: target.server.statistics().ended)

    assert [str(address) for address in addresses] == [path]
    assert event.data == "by file"
    assert "peer=unix" in logged(caplog)[0]


async def test_cancelling_closes_sockets_and_streams(make_server: MakeServer) -> None:
    target = Target(make_server)
    before = open_descriptors()

    async with on_sockets(target.server) as serving:
        clients = [await serving.connect() for _ in range(3)]
        for client in clients[:2]:
            await client.get("/topics/a")
        serving.nursery.cancel_scope.cancel()

    for client in clients:
        await client.closed()
        await client.stream.aclose()
    assert open_descriptors() == before
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream(*serving.address)


async def test_cancelling_before_it_began_closes_the_sockets(make_server: MakeServer) -> None:
    listening = tcp_listener()

    with trio.CancelScope() as scope:
        scope.cancel()
        await make_server().serve_listeners([listening])

    assert listening.fileno() == -1


async def test_cancelling_before_it_began_closes_the_stream(make_server: MakeServer) -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    with trio.CancelScope() as scope:
        scope.cancel()
        await make_server().serve_stream(theirs)

    assert await ours.receive_some() == b""


# Bounds


@pytest.mark.parametrize(
    ("options", "status"),
    [({"max_connections": 2}, 503), ({"max_connections_per_host": 2}, 429)],
)
async def test_streams_are_bounded(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, options: dict[str, object], status: int
) -> None:
    caplog.set_level("INFO", logger="trio_sse.server")
    target = Target(make_server, **options)

    with trio.fail_after(SECONDS):
        async with in_memory(target.server) as serving:
            first, second, third = (serving.connect() for _ in range(3))
            for client in (first, second):
                assert (await client.get("/topics/a")).status == 200

            refusal = await third.get("/topics/a")
            await third.sized_body(refusal)
            assert (await third.get("/stream", method="HEAD")).status == status
            endpoint = await third.get("/echo/a")
            await third.sized_body(endpoint)

            await first.stream.aclose()
            await until(lambda: target.server.statistics().open_streams == 1)
            assert (await third.get("/topics/a")).status == 200

    assert refusal.status == endpoint.status == status
    assert 1 <= int(refusal.get("Retry-After") or 0) <= 10
    assert len(logged(caplog)) == 3
    assert target.server.statistics().refused == 3


async def test_refused_clients_get_different_retry_times(make_server: MakeServer) -> None:
    target = Target(make_server, max_connections=1)
    times = set()

    async with in_memory(target.server) as serving, serving.connect() as first:
        await first.get("/topics/a")
        async with serving.connect() as second:
            for _ in range(50):
                head = await second.get("/topics/a")
                await second.sized_body(head)
                times.add(head.get("Retry-After"))

    assert len(times) > 3


async def test_each_client_address_has_its_own_bound(make_server: MakeServer) -> None:
    target = Target(make_server, max_connections_per_host=1)

    async with on_sockets(target.server) as serving:
        clients = []
        for address in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            stream = await trio.open_tcp_stream(*serving.address, local_address=address)
            clients.append(Client(stream))
        statuses = [(await client.get("/topics/a")).status for client in clients]
        for client in clients:
            await client.stream.aclose()

    assert statuses == [200, 200, 429]


async def test_a_stream_that_its_handler_refuses_is_no_longer_counted(make_server: MakeServer) -> None:
    server = make_server(max_connections=1, max_connections_per_host=1)

    @server.route("/{how}")
    async def refuse(connection: Connection, how: str) -> None:
        if how == "refuse":
            raise HTTPException(403)
        raise RuntimeError

    async with in_memory(server) as serving, serving.connect() as client:
        for path, status in (("/refuse", 403), ("/raise", 500)) * 3:
            head = await client.get(path)
            await client.sized_body(head)
            assert head.status == status


# Descriptors

lists_descriptors = pytest.mark.skipif(not CAN_LIST_DESCRIPTORS, reason="there is no /proc/self/fd")


@pytest.fixture
def limit_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server not raise the limit of descriptors."""
    monkeypatch.setattr("trio_sse._server.listeners.raise_descriptor_limit", lambda: None)


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Open all descriptors that this process may have, under a lower limit, and close them again."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, open_descriptors()))
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@lists_descriptors
async def test_without_descriptors_streams_continue_and_new_clients_are_disconnected(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, limit_stays: None
) -> None:
    target = Target(make_server)

    async with on_sockets(target.server) as serving, await serving.connect() as established:
        await established.get("/topics/a")
        late = [trio.socket.socket() for _ in range(20)]
        with no_descriptor_left():
            for client in late:
                await client.connect(serving.address)
                assert await Client(trio.SocketStream(client)).closed() == b""
            await target.server.hub.publish("a", "still here")
            event = await established.event()
            tasks = target.server.statistics().open_streams
        began_at = trio.current_time()
        assert await say(await trio.open_tcp_stream(*serving.address)) == b"a"
        seconds = trio.current_time() - began_at
        for client in late:
            client.close()

    assert event.data == "still here"
    assert tasks == 1
    assert seconds < 10
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert line == "cannot accept connections: Too many open files; new clients are disconnected"


@lists_descriptors
async def test_without_a_reserve_descriptor_clients_wait_until_there_are_some(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch, limit_stays: None
) -> None:
    monkeypatch.setattr("trio_sse._server.listeners._open_reserve", lambda: None)
    target = Target(make_server)

    async with on_sockets(target.server) as serving:
        client = trio.socket.socket()
        with no_descriptor_left():
            await client.connect(serving.address)
            await trio.testing.wait_all_tasks_blocked(0.01)
        began_at = trio.current_time()
        assert await say(trio.SocketStream(client)) == b"a"
        seconds = trio.current_time() - began_at

    assert seconds < 10


class FailingSocket(socket.socket):
    """A listening socket whose `accept` raises the scripted errors, and then works."""

    failures: list[int]

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            code = self.failures.pop(0)
            raise OSError(code, os.strerror(code))
        return super().accept()


async def accept_after(*failures: int) -> None:
    """Connect a client to a socket that fails before it accepts; return the time of accepting."""
    listening = FailingSocket()
    listening.failures = list(failures)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    listening.setblocking(False)

    async with trio.open_nursery() as nursery:

        def accepted(connected: socket.socket, address: object) -> None:
            connected.close()
            nursery.cancel_scope.cancel()

        with socket.socket() as client:
            client.connect(listening.getsockname())
            nursery.start_soon(Acceptor([listening], accepted).run, trio.CancelScope())
            await trio.sleep_forever()


@pytest.mark.parametrize(
    "code", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.EINTR, errno.ENETDOWN, errno.EHOSTUNREACH]
)
async def test_a_connection_that_fails_before_accept_is_not_logged(
    no_leak: object, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    with trio.fail_after(SECONDS):
        await accept_after(code, code)

    assert logged(caplog) == []


@pytest.mark.parametrize("code", [errno.ENOMEM, errno.ENOBUFS])
async def test_an_error_that_only_time_helps_is_logged_once_a_second(
    no_leak: object, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock, code: int
) -> None:
    began_at = trio.current_time()

    await accept_after(*[code] * 45)

    assert 4 <= trio.current_time() - began_at < 5
    assert len(logged(caplog)) == 5


async def test_a_socket_that_does_not_listen_for_a_while_is_not_logged(
    no_leak: object, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    await accept_after(*[errno.EINVAL] * 45)  # a worker's slot that is withdrawn

    assert logged(caplog) == []


async def test_a_socket_that_does_not_listen_for_long_is_logged(
    no_leak: object, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    await accept_after(*[errno.EINVAL] * 65)

    assert logged(caplog) == ["cannot accept connections: Invalid argument; new clients are disconnected"] * 2


async def test_a_worker_that_starts_while_its_slot_is_withdrawn_serves_when_it_listens_again(
    make_server: MakeServer,
) -> None:
    with socket.socket() as first, socket.socket() as listening:
        address = ("127.0.0.1", 0)
        for slot in first, listening:
            slot.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            slot.bind(address)
            address = slot.getsockname()
        listening.listen()
        listening.shutdown(socket.SHUT_RD)  # as the supervisor withdraws a slot
        async with on_listeners(make_server(), listening.dup()):
            with pytest.raises(OSError, match="failed"):
                await trio.open_tcp_stream(*address)
            listening.listen()
            async with Client(await trio.open_tcp_stream(*address)) as client:
                assert (await client.get("/")).status == 404


async def test_a_log_that_fails_does_not_end_the_accepting(
    no_leak: object, autojump_clock: trio.testing.MockClock
) -> None:
    class Failing(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise SystemExit(1)

    logger, failing = logging.getLogger("trio_sse.server"), Failing()
    logger.addFilter(failing)
    try:
        await accept_after(errno.ENOMEM, errno.ENOBUFS)
    finally:
        logger.removeFilter(failing)


# The end


class LateClient(socket.socket):
    """A listening socket to which a client connects in the last moment before it is closed."""

    client: socket.socket | None = None

    def close(self) -> None:
        if self.client is None and self.fileno() != -1:
            self.client = socket.socket()
            self.client.setblocking(False)
            self.client.connect_ex(self.getsockname())
        super().close()


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not support it")
@pytest.mark.parametrize("how", ["drain", "stop_accepting"])
async def test_a_client_that_connects_in_the_last_moment_is_refused_and_not_reset(
    make_server: MakeServer, how: str
) -> None:
    server = make_server()
    listening = LateClient()
    listening.bind(("127.0.0.1", 0))
    listening.listen()

    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(server.serve_listeners, [listening], exclusive=True))
            if how == "stop_accepting":
                server.stop_accepting()
                await until(lambda: listening.fileno() == -1)
            await server.drain()
        assert listening.client is not None
        with trio.socket.from_stdlib_socket(listening.client) as client:
            await trio.lowlevel.wait_writable(client)
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


@pytest.mark.parametrize("exclusive", [False, True])
async def test_a_socket_that_other_processes_may_have_is_not_changed(
    make_server: MakeServer, exclusive: bool
) -> None:
    server = make_server()
    listening = tcp_listener()
    with listening.dup() as other, trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(server.serve_listeners, [listening], exclusive=exclusive))
            await server.drain()
        with trio.move_on_after(0.1 if exclusive else SECONDS) as scope:
            await (await trio.open_tcp_stream(*other.getsockname())).aclose()

    assert scope.cancelled_caught == (exclusive and sys.platform == "linux")


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not support it")
async def test_a_handshake_under_way_at_a_drain_is_completed_and_its_request_answered(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_sse._process.handshakes._HANDSHAKE_SECONDS", SECONDS)
    target = Target(make_server)
    with trio.fail_after(SECONDS / 2):
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(partial(target.server.serve, "0.0.0.0", 0))
            with connecting(("127.0.0.1", addresses[0][1])) as client:
                nursery.start_soon(target.server.drain)
                await trio.testing.wait_all_tasks_blocked()
            await trio.lowlevel.wait_writable(client)
            assert await say(trio.SocketStream(trio.socket.from_stdlib_socket(client))) == b"a"
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
async def test_running_out_of_descriptors_is_logged_once_a_second(
    no_leak: object,
    limit_stays: None,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: trio.testing.MockClock,
    code: int,
) -> None:
    with trio.fail_after(60):
        # The first EMFILE raises the limit. Of two further failures, one is that of the reserve.
        await accept_after(*[code] * (101 if code == errno.EMFILE else 100))

    assert 1 <= len(logged(caplog)) <= 1 + 60


@lists_descriptors
async def test_the_soft_limit_of_descriptors_is_raised_when_none_is_left(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="trio_sse.process")
    async with on_sockets(make_server()) as serving:
        client = trio.socket.socket()
        with no_descriptor_left(), trio.fail_after(SECONDS):
            lowered, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            await client.connect(serving.address)
            async with trio.SocketStream(client) as stream:
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")

    assert logged(caplog)[-1] == f"raised the file descriptor limit from {lowered} to {hard}"


async def test_a_limit_that_cannot_be_raised_is_logged(
    no_leak: object, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(kind: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 1024))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    await accept_after(errno.EMFILE)

    assert logged(caplog)[0] == "the file descriptor limit stays at 256: not allowed"
