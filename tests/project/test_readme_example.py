"""The README's first example runs as pasted."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import httpx
import pytest

from ..support.ports import free_port
from ..support.programs import ROOT, running
from ..support.waiting import SECONDS

pytestmark = pytest.mark.integration


def test_the_readme_example_runs_as_pasted(tmp_path: Path) -> None:
    example = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    port = free_port()
    (tmp_path / "app.py").write_text(example.replace("8000", str(port)))  # 8000 may be taken here
    with running([sys.executable, "app.py"], cwd=tmp_path):
        transport = httpx.HTTPTransport(retries=10)  # until it listens
        with (
            httpx.Client(transport=transport, timeout=SECONDS) as client,
            client.stream("GET", f"http://127.0.0.1:{port}/clock") as response,
        ):
            text = ""
            for part in response.iter_text():
                text += part
                if text.count("\n") >= 5:
                    break
    cursor, _, identifier, event, data = text.splitlines()[:5]
    assert re.fullmatch(r"id: [0-9a-f]{8}\.[0-9]+", cursor)
    assert re.fullmatch(r"id: [0-9a-f]{8}\.[0-9]+", identifier)
    assert event == "event: tick"
    assert re.fullmatch(r'data: \{"time":[0-9.]+\}', data)
