"""A real browser for tests: headless Chromium, driven by Playwright."""

from __future__ import annotations

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
