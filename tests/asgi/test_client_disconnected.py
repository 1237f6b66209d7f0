"""Which exceptions of an app are about a disconnect, and are not logged where one is known."""

from __future__ import annotations

import pytest

from trio_sse._asgi.client_disconnected import ClientDisconnected, is_of_disconnect


@pytest.mark.parametrize("name", ["ClientDisconnect", "ClientDisconnectedError"])
def test_those_of_starlette_and_quart_are(name: str) -> None:
    error = type(name, (Exception,), {})()
    assert is_of_disconnect(error)
    assert is_of_disconnect(ExceptionGroup("several", [error, ClientDisconnected("left")]))


def test_others_are_not() -> None:
    assert not is_of_disconnect(OSError("the disk is full"))
    assert not is_of_disconnect(ExceptionGroup("several", [ClientDisconnected("left"), ValueError("wrong")]))
