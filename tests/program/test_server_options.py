"""The options of `Server` as options of the program."""

from __future__ import annotations

import inspect
import math

import pytest
from click.testing import CliRunner

from trio_sse import Server
from trio_sse._asgi.types import Receive, Scope, Send
from trio_sse._program.errors import ProgramError
from trio_sse.cli import main
from trio_sse.cli.server_options import SERVER_OPTIONS, configure


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Do nothing."""


def test_each_option_is_an_argument_of_server_and_in_the_help() -> None:
    arguments = inspect.signature(Server).parameters
    text = CliRunner().invoke(main, ["serve", "--help"]).output
    for option in SERVER_OPTIONS:
        assert option.name in arguments
        assert option.flag in text


def test_options_override_those_of_a_server_and_leave_the_others() -> None:
    server = Server(drain_timeout=3, max_connections=5, keepalive=7)
    assert configure(server, {"drain_timeout": 4.0, "max_connections": None, "keepalive": None}) is server
    assert server.drain_timeout == 4
    assert server._options.admission.max_connections == 5
    assert server._options.streams.keepalive == 7


def test_options_make_the_server_of_an_app() -> None:
    assert configure(app, {"drain_timeout": 4.0, "keepalive": None}).drain_timeout == 4


@pytest.mark.parametrize("target", [Server(), app])
def test_an_option_that_is_not_acceptable_is_reported(target: Server) -> None:
    with pytest.raises(ProgramError, match="drain_timeout must be"):
        configure(target, {"drain_timeout": math.nan})
