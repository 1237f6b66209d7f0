from __future__ import annotations

import socket

from trio_sse._process.listening_socket import ListeningSocket


def test_it_accepts_what_the_standard_librarys_socket_accepts() -> None:
    with ListeningSocket(socket.AF_INET) as listening, socket.socket() as client:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        client.connect(listening.getsockname())
        accepted, address = listening.accept()
        assert address == client.getsockname()
    with accepted:
        assert type(accepted) is socket.socket
        assert (accepted.family, accepted.type, accepted.proto) == (socket.AF_INET, socket.SOCK_STREAM, 0)


def test_it_says_what_it_is_as_the_standard_librarys_socket_does() -> None:
    plain = socket.socket()
    with ListeningSocket(plain.family, plain.type, plain.proto, fileno=plain.detach()) as listening:
        assert (listening.family, listening.type) == (socket.AF_INET, socket.SOCK_STREAM)
        assert isinstance(listening.family, socket.AddressFamily)
        with listening.dup() as copy:
            assert (copy.family, copy.type) == (listening.family, listening.type)
