"""A real browser for tests: headless Chromium, driven by Playwright.

Playwright waits half as long as our other tests do, and without an end for a promise of a page. Here, all
waits have the same deadline, and say what they waited for. It takes 0.2 s to import, so that is done when
the first browser starts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .requirements import find
from .waiting import SECONDS

OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MILLISECONDS = SECONDS * 1000


@contextmanager
def chromium() -> Iterator[Any]:
    """Run a browser."""
    from playwright import sync_api

    sync_api.expect.set_options(timeout=MILLISECONDS)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find("chromium"), args=OPTIONS, timeout=MILLISECONDS
        )
        yield browser
        browser.close()


def expect(locator: Any) -> Any:
    """Return what Playwright can expect of a locator."""
    from playwright import sync_api

    return sync_api.expect(locator)


@contextmanager
def profile(browser: Any, **options: Any) -> Iterator[Any]:
    """Open a profile of its own, whose pages share cookies; the options are those of a Playwright context."""
    context = browser.new_context(**options)
    try:
        context.set_default_timeout(MILLISECONDS)
        yield context
    finally:
        context.close()


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true in a page."""
    from playwright import sync_api

    try:
        page.wait_for_function(expression, timeout=MILLISECONDS)
    except sync_api.TimeoutError:
        raise AssertionError(f"{page.url} has not come so far: {expression}") from None


def value_of(page: Any, function: str, argument: object = None) -> Any:
    """Return what a function returns that a page runs, also if it is a promise."""
    late = json.dumps(f"it has not returned: {function}")
    return page.evaluate(
        f"""(argument) => Promise.race([
          new Promise((_, reject) => setTimeout(() => reject(new Error({late})), {MILLISECONDS})),
          ({function.strip()})(argument),
        ])""",
        argument,
    )
