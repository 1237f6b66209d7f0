"""What an import of the package brings in, and what a missing extra says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ..support.waiting import SECONDS

pytestmark = pytest.mark.integration


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
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    imported = finished.stdout.split()
    assert "trio_sse._server.server" in imported
    assert "trio_sse.cli" not in imported


@pytest.mark.parametrize(
    ("missing", "code", "extra"),
    [
        ("psutil", "import trio_sse.demo", "cli"),
        ("quart", "import trio_sse.quart", "quart"),
        ("hypercorn", "import trio_sse.hypercorn", "hypercorn"),
        ("prometheus_client", "import trio_sse.metrics", "metrics"),
        ("opentelemetry", "import trio_sse.otel", "otel"),
        ("coredis", "import trio_sse.redis; trio_sse.redis.RedisLog('redis://127.0.0.1')", "redis"),
    ],
)
def test_an_import_without_its_extra_names_the_extra(missing: str, code: str, extra: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules[{missing!r}] = None; {code}"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1].endswith(f"needs its extra: pip install 'trio-sse[{extra}]'")
