"""A real browser for tests: headless Chromium, driven by Playwright."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

if os.environ.get("CI"):
    sync_api: Any = importlib.import_module("playwright.sync_api")
else:
    sync_api = pytest.importorskip("playwright.sync_api", reason="NOT TESTED IN A BROWSER: no playwright")

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 20.0  # for the page to get somewhere: only a failing test waits for so long
MILLISECONDS = SECONDS * 1000


def find_chromium() -> str:
    """Find a browser, or skip; where CI runs, it must be there."""
    found = os.environ.get("TRIO_SSE_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = f"NOT TESTED IN A BROWSER: none of {', '.join(NAMES)} is there, nor is TRIO_SSE_CHROMIUM set"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = find_chromium()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()
