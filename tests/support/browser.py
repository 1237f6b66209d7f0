"""A real browser for tests: headless Chromium, driven by Playwright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright import sync_api

from .requirements import find

OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 30.0  # for the page to get somewhere: only a failing test waits for so long
MILLISECONDS = SECONDS * 1000


@contextmanager
def chromium() -> Iterator[Any]:
    """Run a browser."""
    sync_api.expect.set_options(timeout=MILLISECONDS)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find("chromium"), args=OPTIONS)
        yield browser
        browser.close()
