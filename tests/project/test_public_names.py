"""Names that users may rely on while files move: loggers, and the modules that public names report."""

from __future__ import annotations

import ast
import importlib
import pickle
from pathlib import Path
from types import FunctionType

import pytest

import trio_sse
from trio_sse.websocket import WebSocketConnection

from ..support.cases import each_case

PACKAGE = Path(trio_sse.__file__).parent

PUBLIC_MODULES = (
    "",
    ".asgi",
    ".hypercorn",
    ".logs",
    ".client",
    ".metrics",
    ".otel",
    ".quart",
    ".redis",
    ".sqlite",
    ".testing",
    ".websocket",
)

LOGGERS = {
    f"trio_sse.{name}"
    for name in (
        *("access", "stream", "server", "app"),
        *("hub", "log", "runs"),
        *("console", "process", "program", "tracing"),
        "hypercorn",
    )
}


# What docs, examples or typing tests use. Everything else is behind an underscore.
CONNECTION = {
    *("id", "request", "last_event_id", "peer", "identity", "expires_at"),
    *("events_sent", "bytes_sent", "duration", "end_reason"),
    *("add_header", "start", "send", "comment", "subscribe", "forward", "close"),
}
WEBSOCKET_CONNECTION = {
    *("id", "request", "last_event_id", "peer", "identity", "expires_at", "hub", "subprotocol", "end_reason"),
    *("add_header", "start", "receive", "send", "send_text", "send_json", "send_bytes"),
    *("subscribe", "forward", "close"),
}


def literal_logger_names(source: str) -> list[object]:
    """Return the arguments of all calls that get a logger: text, or `None` for anything else."""
    return [
        node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", ""))
        in ("getLogger", "get_logger")
    ]


@pytest.mark.slow
def test_loggers_have_fixed_names_that_are_no_file_paths() -> None:
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "_logger.py"]  # it has the one function
    sources = [source for path in files if "ogger(" in (source := path.read_text())]
    found = {name for source in sources for name in literal_logger_names(source)}
    assert {name for name in found if not str(name).startswith(("coredis", "hpack", "hypercorn."))} == LOGGERS


@each_case("suffix", PUBLIC_MODULES)
def test_public_names_report_their_public_module(suffix: str) -> None:
    module = importlib.import_module(f"trio_sse{suffix}")
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, type | FunctionType):
            assert value.__module__ == module.__name__, name


def test_a_public_value_is_pickled_by_its_public_path() -> None:
    pickled = pickle.dumps(trio_sse.EndReason.FINISHED, protocol=0)
    assert b"trio_sse\nEndReason" in pickled
    assert pickle.loads(pickled) is trio_sse.EndReason.FINISHED


@pytest.mark.parametrize(
    ("public", "members"),
    [(trio_sse.Connection, CONNECTION), (WebSocketConnection, WEBSOCKET_CONNECTION)],
)
def test_connections_show_what_is_documented_and_nothing_else(public: type, members: set[str]) -> None:
    assert {name for name in dir(public) if not name.startswith("_")} == members
