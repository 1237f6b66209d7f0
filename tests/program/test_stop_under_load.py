"""A program that stops while clients connect resets none of them."""

from __future__ import annotations

import signal
import socket
import threading
from collections import Counter

import pytest

from ..support.programs import serving
from ..support.waiting import SECONDS, until_blocking

pytestmark = pytest.mark.integration

APP = "tests.support.apps.asgi_app:app"
CLIENTS = 16
REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


def ask_until_refused(address: tuple[str, int], outcomes: Counter[str], lock: threading.Lock) -> None:
    while True:
        try:
            with socket.create_connection(address, timeout=SECONDS) as client:
                client.sendall(REQUEST)
                outcome = "answered" if client.recv(4096) else "closed"
        except ConnectionRefusedError:
            return
        except OSError as error:
            outcome = type(error).__name__
        with lock:
            outcomes[outcome] += 1


@pytest.mark.parametrize("options", [(), ("--workers", "2", "--separate-hubs")], ids=["alone", "workers"])
def test_no_client_is_reset(options: tuple[str, ...]) -> None:
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()
    with serving(APP, *options) as (program, url):
        host, port = url.removeprefix("http://").split(":")
        arguments = ((host, int(port)), outcomes, lock)
        threads = [threading.Thread(target=ask_until_refused, args=arguments) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        until_blocking(lambda: outcomes["answered"] > 10 * CLIENTS)
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        for thread in threads:
            thread.join(SECONDS)
    assert set(outcomes) == {"answered"}
