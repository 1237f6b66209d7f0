"""Imports only point down: no module knows of one that is above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import trio_sse

PACKAGE = Path(trio_sse.__file__).parent

# From the ground up: a module may import those that stand before it.
LAYERS = [
    layer
    for line in (
        "_module_metadata _event _fields _bounds _client_script _websocket_frames _garbage_collector",
        "_decoder _message _topic",
        "_log _shared_log _state _interval _ticker _heavy _queue _subscription _subscribers",
        "_hub_statistics _log_sessions _log_publisher _log_follower _mirror _hub",
        "_transport _tls _request _end_reason _http_exception _offset",
        "_gatherer _hangup _keepalive _stream_host _serving _connection _farewell _stream",
        "_stage _asgi_types _asgi_request _asgi_transport _hypercorn_direct _asgi_stage",
        "_http _body _response _routes _cors _handshake _reception _admission _poll",
        "_incoming _websocket _topics_protocol",
        "_peer_watch _app_call _lifespan _asgi_host _exchange",
        "_listeners _descriptors _watchdog _server",
        "__init__",
        "_quart_websocket",
        "_redis_url asgi quart hypercorn websocket testing redis sqlite",
        "_interruption _program _worker_process _worker_sockets _worker_status _workers _tail",
        "_load_target _load_dialer _load_stream _load_reader",
        "_load_distribution _load_totals _load_client _load _load_report",
        "_proc _available_memory _doctor",
        "demo._machine demo._dashboard demo.__init__",
        "cli __main__",
    )
    for layer in line.split()
]

# Who may import what is not of this project, nor the standard library's.
CORE = {"trio", "h11"}
OPTIONAL = {
    "_state": {"json_merge_patch", "jsonpatch"},
    "_incoming": {"wsproto"},
    "quart": {"quart", "quart_trio", "werkzeug"},
    "_quart_websocket": {"quart"},
    "hypercorn": {"hypercorn"},
    "_hypercorn_direct": {"hypercorn", "h2"},  # only when they are there
    "_program": {"hypercorn"},
    "redis": {"coredis"},
    "cli": {"click"},
    "_tail": {"httpx"},
    "demo._machine": {"psutil"},
}

MODULES = sorted(".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py"))


class Imports(ast.NodeVisitor):
    """Gathers what a module imports when it runs, inside functions too, but not for type checkers only."""

    def __init__(self, module: str) -> None:
        self._package = ["trio_sse", *module.split(".")[:-1]]
        self.own: set[str] = set()
        self.foreign: set[str] = set()
        self.visit(ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text()))

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._note(alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self._package[: len(self._package) - node.level + 1] if node.level else []
        module = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            self._note(module, alias.name)

    def _note(self, module: str, name: str = "") -> None:
        top, _, inner = module.partition(".")
        if top != "trio_sse":
            self.foreign.add(top)
        elif name and f"{inner}.{name}".strip(".") in MODULES:
            self.own.add(f"{inner}.{name}".strip("."))
        else:
            self.own.add(inner if inner in MODULES else f"{inner}.__init__".strip("."))


def test_every_module_has_its_layer() -> None:
    assert sorted(LAYERS) == MODULES


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_point_down(module: str) -> None:
    below = set(LAYERS[: LAYERS.index(module)])
    assert Imports(module).own <= below


@pytest.mark.parametrize("module", MODULES)
def test_what_is_optional_is_imported_only_where_it_is_needed(module: str) -> None:
    foreign = Imports(module).foreign - set(sys.stdlib_module_names) - CORE
    assert foreign == OPTIONAL.get(module, set())


def test_the_encoding_needs_no_event_loop() -> None:
    for module in ("_event", "_fields", "_decoder", "_message", "_topic", "_log", "_queue"):
        assert "trio" not in Imports(module).foreign


def test_the_core_needs_trio_and_h11_only() -> None:
    code = """
import sys
import trio, h11  # and with them what they need themselves

class Nothing:
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "trio", "h11", "trio_sse"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Nothing())
import trio_sse
print(*sorted(name for name in sys.modules if name.startswith("trio_sse")))
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    imported = finished.stdout.split()
    assert "trio_sse._server" in imported
    assert "trio_sse.cli" not in imported
    assert "trio_sse._websocket" not in imported


def test_without_the_extra_a_websocket_says_what_to_install() -> None:
    code = """
import sys

sys.modules["wsproto"] = None
from trio_sse import Server

def attempt(use):
    try:
        use()
    except ImportError as error:
        print(error)

attempt(lambda: Server().websocket("/ws"))
attempt(lambda: __import__("trio_sse.websocket"))
"""
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert finished.stdout.splitlines() == ["WebSockets need: pip install 'trio-sse[websocket]'"] * 2
