"""The package uses other libraries by their public names only."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import trio_sse

ROOT = Path(trio_sse.__file__).parent

#: The public modules of other libraries, as their documentation names them.
PUBLIC_MODULES = {
    "click",
    "coredis",
    "coredis.exceptions",
    "coredis.retry",
    "h11",
    "hpack",
    "httpx",
    "hypercorn.config",
    "hypercorn.trio",
    "json_merge_patch",
    "jsonpatch",
    "opentelemetry",
    "opentelemetry.context",
    "opentelemetry.propagate",
    "opentelemetry.propagators.textmap",
    "opentelemetry.trace",
    "prometheus_client.exposition",
    "prometheus_client.metrics_core",
    "prometheus_client.registry",
    "psutil",
    "pytest",
    "pytest_trio",
    "quart",
    "quart.wrappers.response",
    "quart_trio",
    "rich.console",
    "rich.layout",
    "rich.live",
    "rich.table",
    "rich.text",
    "trio",
    "trio.testing",
    "werkzeug.datastructures",
    "werkzeug.exceptions",
    "watchfiles",
}

#: Private names that are Python's own and documented.
DOCUMENTED = {"_asdict", "_current_frames", "_exit", "_fields", "_replace"}

#: Ways into an object that has no name for what is looked for.
BACK_DOORS = {"__self__", "__func__", "__closure__", "__wrapped__", "cr_frame", "gi_frame", "f_locals"}


Nodes = list[ast.AST]


@pytest.fixture(scope="module")
def modules() -> dict[Path, Nodes]:
    """Return the nodes of the syntax tree of each module of the package."""
    return {path: list(ast.walk(ast.parse(path.read_text()))) for path in sorted(ROOT.rglob("*.py"))}


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def is_foreign(module: str) -> bool:
    top = module.partition(".")[0]
    return top not in sys.stdlib_module_names and top != "trio_sse"


def own_names(modules: dict[Path, Nodes]) -> set[str]:
    """Return every private name that the package defines, as a variable, function, class or attribute."""
    names: set[str] = set()
    for path, nodes in modules.items():
        names.add(path.stem)
        names.add(path.parent.name)
        for node in nodes:
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    names.add(name)
                case ast.Name(id=name, ctx=ast.Store()):
                    names.add(name)
                case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                    names.add(name)
    return names


def imports(nodes: Nodes) -> Iterator[tuple[str, str]]:
    """Yield each absolute import as its module and the name that is taken from it, which may be empty."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module is not None:
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.slow
def test_imports_of_other_libraries_are_public(modules: dict[Path, Nodes]) -> None:
    for path, nodes in modules.items():
        for module, name in imports(nodes):
            assert not any(is_private(part) for part in [*module.split("."), name]), (
                f"{path}: {module} {name}"
            )
            if is_foreign(module):
                assert module in PUBLIC_MODULES, f"{path}: {module} is not in the list of public modules"


@pytest.mark.slow
def test_no_private_attribute_of_another_library_is_used(modules: dict[Path, Nodes]) -> None:
    own = own_names(modules) | DOCUMENTED
    for path, nodes in modules.items():
        for name, line in accessed_names(nodes):
            assert not is_private(name) or name in own, f"{path}:{line}: {name}"
            assert name not in BACK_DOORS, f"{path}:{line}: {name}"


def test_no_other_library_is_patched(modules: dict[Path, Nodes]) -> None:
    for path, nodes in modules.items():
        foreign = set(imported_names(nodes))
        for node in nodes:
            match node:
                case ast.Attribute(value=ast.Name(id=name), attr=attribute, ctx=ast.Store()):
                    assert name not in foreign, f"{path}:{node.lineno}: {name}.{attribute} is set"


def accessed_names(nodes: Nodes) -> Iterator[tuple[str, int]]:
    """Yield the name and line of each attribute that is used, by its name or in a string."""
    for node in nodes:
        match node:
            case ast.Attribute(attr=name):
                yield name, node.lineno
            case ast.Call(func=ast.Name(id="getattr" | "setattr" | "hasattr"), args=[_, name_node, *_]):
                if isinstance(name_node, ast.Constant) and isinstance(name_node.value, str):
                    yield name_node.value, node.lineno


def imported_names(nodes: Nodes) -> Iterator[str]:
    """Yield the names that modules and objects of other libraries have in a file."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.asname or alias.name for alias in node.names if is_foreign(alias.name))
        elif isinstance(node, ast.ImportFrom) and not node.level and is_foreign(node.module or ""):
            yield from (alias.asname or alias.name for alias in node.names)
