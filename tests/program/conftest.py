"""Fixtures of this package's tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from trio_sse.cli import main


@pytest.fixture
def invoke(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Result]]:
    """Run the program within this process, where it fails before it does anything that would last."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path_factory.getbasetemp())):
            del sys.modules[name]  # the test's own
