"""A Quart-Trio app with a page, a login and a stream, in a real browser: on our server, and over HTTP/2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from ..support import http
from ..support.browser import expect, profile
from ..support.programs import serving
from ..support.requirements import needs

pytestmark = [pytest.mark.integration, needs("chromium")]


@pytest.fixture(scope="module", params=["ours", "http2"])
def members(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the app; give its URL."""
    options: list[str | Path] = []
    if request.param == "http2":
        folder = tmp_path_factory.mktemp("certificate")
        issued = trustme.CA().issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(folder / "key.pem")
        issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        options = ["--http2", "--certfile", folder / "cert.pem", "--keyfile", folder / "key.pem"]
    with serving("tests.support.apps.members:app", *options) as (_, url):
        yield url


@pytest.fixture
def page(browser: Any, members: str) -> Iterator[Any]:
    """Open the app's page in its own browser, which takes any certificate."""
    with profile(browser, ignore_https_errors=True) as context:
        opened = context.new_page()
        opened.goto(members)
        yield opened


def post(url: str, body: str = "") -> None:
    http.post(url, content=body.encode(), verify=False).raise_for_status()


def log_in(page: Any, name: str) -> None:
    page.fill("input", name)
    page.click("#enter")
    expect_news(page, [f"hello {name}"])


def expect_news(page: Any, news: list[str]) -> None:
    expect(page.locator("#news li")).to_have_text(news)


def test_a_user_who_is_not_logged_in_is_refused(page: Any, members: str) -> None:
    page.goto(f"{members}/?follow")
    expect(page.locator("#status")).to_have_text("refused")


def test_a_user_who_is_logged_in_sees_what_is_published(page: Any, members: str) -> None:
    log_in(page, "Ada")
    post(f"{members}/publish", "größer")
    expect_news(page, ["hello Ada", "größer"])


def test_a_cut_stream_reconnects_and_misses_nothing(page: Any, members: str) -> None:
    log_in(page, "Bob")
    post(f"{members}/publish", "before")
    expect_news(page, ["hello Bob", "before"])
    post(f"{members}/cut")
    post(f"{members}/publish", "after")
    expect_news(page, ["hello Bob", "before", "while away", "after"])
