"""Where the program listens: TCP addresses, Unix sockets, and sockets that it has inherited."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from trio_sse._program.addresses import (
    DescriptorAddress,
    TCPAddress,
    UnixAddress,
    describe_address,
    parse_address,
)
from trio_sse._program.errors import ProgramError
from trio_sse._program.listening import Listening, listen_options, listening_on

from ..support.cases import each_case


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder to bind in, by relative paths: those of sockets must be short."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def listening_socket() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


@each_case(
    ("text", "address"),
    [
        ("127.0.0.1:80", TCPAddress("127.0.0.1", 80)),
        ("[::1]:80", TCPAddress("::1", 80)),
        (":80", TCPAddress(None, 80)),
        ("localhost", TCPAddress("localhost", 8000)),
        ("unix:app.sock", UnixAddress("app.sock")),
        ("unix:/run/app.sock", UnixAddress("/run/app.sock")),
        ("unix:///run/app.sock", UnixAddress("/run/app.sock")),
        ("fd://3", DescriptorAddress(3)),
    ],
)
def test_addresses(text: str, address: object) -> None:
    assert parse_address(text) == address


@each_case("text", ["", "x:y", "::1:80", "a:65536", "unix:", "unix:a\0b", "fd://", "fd://-1", "fd://٣"])
def test_malformed_addresses_are_refused(text: str) -> None:
    with pytest.raises(ProgramError, match="is not like"):
        parse_address(text)


@each_case(
    ("address", "text"),
    [
        (("::1", 80, 0, 0), "[::1]:80"),
        (("127.0.0.1", 80), "127.0.0.1:80"),
        ("/run/app.sock", "unix:/run/app.sock"),
        (b"\0app", "unix:@app"),
    ],
)
def test_descriptions(address: object, text: str) -> None:
    assert describe_address(address) == text


def test_without_addresses_it_listens_on_the_default_one() -> None:
    assert list(listen_options([]).addresses) == ["127.0.0.1:8000"]


# Unix sockets


def test_a_unix_socket_has_its_permissions_and_is_removed_at_the_end(folder: Path) -> None:
    with listening_on(listen_options(["unix:app.sock"], unix_mode=0o620)) as listening:
        found = Path("app.sock").lstat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o620
        assert listening.describe("http") == ["unix:app.sock"]
        assert listening.is_exclusive
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("app.sock")
    assert not Path("app.sock").exists()


def test_what_another_program_has_left_is_removed(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        old.bind("app.sock")
    with listening_on(listen_options(["unix:app.sock"])), socket.socket(socket.AF_UNIX) as client:
        client.connect("app.sock")


def test_a_socket_in_use_is_taken_over_and_stays_the_new_ones(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = listen_options(["unix:app.sock"])
    with listening_on(options) as old, listening_on(options) as new:
        assert "taking it over" in caplog.text
        new.keep_names()
        assert os.listdir() == ["app.sock"]
        old.close()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("app.sock")
            new.sockets[0].accept()[0].close()
    assert not Path("app.sock").exists()


@pytest.mark.parametrize("ends", [False, True])
def test_a_program_that_fails_to_start_gives_a_name_back(folder: Path, ends: bool) -> None:
    with listening_on(listen_options(["unix:app.sock"])) as old:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            taken = f"127.0.0.1:{busy.getsockname()[1]}"
            with pytest.raises(ProgramError, match="in use"):
                Listening().open(listen_options(["unix:app.sock", "unix:./app.sock", taken]))
        with listening_on(listen_options(["unix:app.sock"])):  # whose app does not start
            if ends:
                old.close()
        assert os.listdir() == ([] if ends else ["app.sock"])
        if not ends:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect("app.sock")
                client.sendall(b"x")
                while not (accepted := old.sockets[0].accept()[0]).recv(1):
                    accepted.close()  # of one that asked whether the name is in use
                accepted.close()


def test_a_file_is_not_replaced_by_a_socket(folder: Path) -> None:
    Path("app.sock").write_text("precious")
    listening = Listening()
    with pytest.raises(ProgramError, match="not a socket"):
        listening.open(listen_options(["127.0.0.1:0", "unix:app.sock"]))
    assert Path("app.sock").read_text() == "precious"
    assert [each.fileno() for each in listening.sockets] == [-1]


def test_a_socket_of_another_type_that_is_in_use_is_not_replaced(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind("log.sock")
        with pytest.raises(ProgramError, match="another program's"):
            Listening().open(listen_options(["unix:log.sock"]))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(b"still there", "log.sock")
        assert log.recv(100) == b"still there"


@pytest.mark.parametrize("text", ["unix:app.sock", "unix:./app.sock", "fd"])
def test_a_socket_is_not_used_for_two_things(
    folder: Path, listening_socket: socket.socket, text: str
) -> None:
    text = f"fd://{listening_socket.fileno()}" if text == "fd" else text
    service = listen_options(["unix:app.sock", f"fd://{listening_socket.fileno()}"])
    with pytest.raises(ProgramError, match=f"cannot listen on {text}: .* for something else"):
        listen_options([text], apart_from=service)
    for taken in service.inherited.values():
        taken.detach()


@pytest.mark.parametrize("path", ["missing/app.sock", "x" * 200])
def test_a_path_that_cannot_be_bound_is_reported(folder: Path, path: str) -> None:
    with pytest.raises(ProgramError, match=f"cannot listen on unix:{path}: "):
        Listening().open(listen_options([f"unix:{path}"]))


# Inherited sockets


def activation(count: int | str, pid: int | None = None) -> dict[str, str]:
    pid = os.getpid() if pid is None else pid
    return {"LISTEN_PID": str(pid), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": "a", "HOME": "/"}


def test_activated_sockets_are_served_and_their_variables_removed(
    listening_socket: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_sse._program.inherited_sockets._FIRST", listening_socket.fileno())
    name = f"http://127.0.0.1:{listening_socket.getsockname()[1]}"
    environment = activation(1)
    options = listen_options([], environment=environment)
    listening_socket.detach()
    assert environment == {"HOME": "/"}
    with listening_on(options, slots=2) as listening:
        assert listening.slots == [[], []]
        assert listening.describe("http") == [name]
        assert not listening.is_exclusive


def test_activated_sockets_are_served_beside_addresses(
    listening_socket: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = listening_socket.fileno()
    monkeypatch.setattr("trio_sse._program.inherited_sockets._FIRST", number)
    options = listen_options([f"fd://{number}", "127.0.0.1:0"], environment=activation(1))
    listening_socket.detach()
    with listening_on(options) as listening:
        assert len(listening.sockets) == 2


def test_variables_that_are_for_another_process_are_left() -> None:
    environment = activation(1, pid=1)
    options = listen_options([], environment=environment)
    assert environment == activation(1, pid=1)
    assert not options.inherited


def test_a_number_of_sockets_that_is_none_is_refused() -> None:
    with pytest.raises(ProgramError, match="LISTEN_FDS must be"):
        listen_options([], environment=activation("many"))


def test_an_inherited_socket_that_is_only_bound_listens() -> None:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    address = bound.getsockname()
    options = listen_options([f"fd://{bound.detach()}"])
    with listening_on(options), socket.create_connection(address, 10):
        pass


def made(kind: str) -> list[socket.socket]:
    match kind:
        case "datagram":
            return [socket.socket(type=socket.SOCK_DGRAM)]
        case "connection":
            return list(socket.socketpair())
        case "unbound":
            return [socket.socket()]
        case "unbound Unix":
            return [socket.socket(socket.AF_UNIX)]
    raise AssertionError(kind)


@each_case(
    ("kind", "message"),
    [
        ("datagram", "is of the type SOCK_DGRAM"),
        ("connection", "is a connection"),
        ("unbound", "is not bound"),
        ("unbound Unix", "is not bound"),
    ],
)
def test_a_socket_that_cannot_be_served_is_refused(kind: str, message: str) -> None:
    sockets = made(kind)
    number = sockets[0].fileno()
    with pytest.raises(ProgramError, match=f"^fd://{number} {message}"):
        listen_options([f"fd://{number}"])
    for each in sockets:
        each.close()  # it is still open


def test_a_descriptor_that_is_no_socket_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        number = file.fileno()
        with pytest.raises(ProgramError, match=f"fd://{number} is not a socket"):
            listen_options([f"fd://{number}"])
    with pytest.raises(ProgramError, match=f"fd://{number} is not open"):
        listen_options([f"fd://{number}"])
