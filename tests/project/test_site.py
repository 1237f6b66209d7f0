"""The documentation site: it builds without a warning, fetches nothing, and reads well on a phone."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.browser import chromium, profile
from ..support.markdown import PAGES, ROOT
from ..support.programs import tool_environment
from ..support.requirements import needs
from ..support.waiting import SECONDS

# The build may take half of this on a busy machine: each process waits for it before its own test begins.
pytestmark = [pytest.mark.site, pytest.mark.integration, pytest.mark.timeout(20 * SECONDS)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, once for all processes that run tests."""
    run = tmp_path_factory.getbasetemp()
    built = (run.parent if "PYTEST_XDIST_WORKER" in os.environ else run) / "site"
    built.mkdir(exist_ok=True)
    with (built / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (built / "complete").exists():
            build(built)
            (built / "complete").touch()
    return built / "html"


def build(built: Path) -> None:
    options = ["--fail-on-warning", "--keep-going", "-q", "-c", "docs", "-d", str(built / "doctrees")]
    finished = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ".", str(built / "html")],
        cwd=ROOT,
        env=tool_environment(),
        capture_output=True,
        text=True,
        timeout=15 * SECONDS,
    )
    assert finished.returncode == 0, finished.stderr


def pages(site: Path) -> list[Path]:
    """Return the site's pages but the first, which redirects."""
    return [page for page in sorted(site.rglob("*.html")) if page != site / "index.html"]


def test_every_page_is_on_the_site(site: Path) -> None:
    for page in PAGES:
        assert (site / page.relative_to(ROOT).with_suffix(".html")).exists(), page


def test_nothing_is_fetched_from_other_hosts(site: Path) -> None:
    attribute = r"""(?:src|data|srcset)=["'](?:https?:)?//"""
    style = r"""url\(["']?(?:https?:)?//|@import ["']http"""
    foreign = re.compile(rf"{attribute}|{style}|<link\b[^>]*https?://")
    for file in [*site.rglob("*.html"), *site.rglob("*.css")]:
        assert not foreign.search(file.read_text()), file


def test_public_names_have_their_docs(site: Path) -> None:
    reference = (site / "docs" / "reference" / "trio_sse.html").read_text()
    for name in ("trio_sse.Server.route", "trio_sse.EndReason.MAX_DURATION", "trio_sse.Log.connect"):
        assert f'id="{name}"' in reference, name


@needs("chromium")
def test_it_reads_well_on_a_phone_and_is_searched_offline(site: Path, browser: Any) -> None:
    with profile(browser, viewport={"width": 390, "height": 844}, offline=True) as context:
        page = context.new_page()
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        for file in pages(site):
            page.goto(file.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, file
        page.goto(f"{(site / 'search.html').as_uri()}?q=replay")
        page.wait_for_selector("#search-results li >> text=Publishing and subscribing")
        page.goto((site / "index.html").as_uri())
        page.wait_for_url("**/docs/index.html")
        assert {url.partition(":")[0] for url in requests} <= {"file", "data"}
