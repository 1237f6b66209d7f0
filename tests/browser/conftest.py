"""A browser that all tests of this package share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright import sync_api

from ..support.browser import OPTIONS
from ..support.requirements import find


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """Start a browser."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find("chromium"), args=OPTIONS)
        yield browser
        browser.close()
