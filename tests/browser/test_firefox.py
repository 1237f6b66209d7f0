"""Firefox over HTTP/2. It takes 300 MB and ten seconds, so it is tested where `TRIO_SSE_FIREFOX` names it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ..support import http
from ..support.certificates import Certificate
from ..support.firefox import firefox
from ..support.programs import example, serving
from .test_http2 import OPEN, PROTOCOLS, STREAMS

pytestmark = pytest.mark.integration


def test_firefox_has_forty_streams_which_resume_after_a_cut(certificate: Certificate, tmp_path: Path) -> None:
    with firefox(os.environ["TRIO_SSE_FIREFOX"], tmp_path) as browser:
        with example("http2") as (_, url):
            browser.open(url)
            browser.until(f"document.getElementById('open').value === '{STREAMS}'")
            browser.evaluate("document.querySelector('button').click()")
            browser.until("document.getElementById('answer').value === 'reset over HTTP/2'")
        options = ("--certfile", certificate.chain, "--keyfile", certificate.key)
        with (
            serving("tests.support.apps.follow:server", *options) as (_, url),
            http.Client(base_url=url, verify=certificate.context) as client,
        ):
            browser.open(url)
            browser.evaluate(f"({OPEN})({STREAMS})")
            browser.until("sources.every(one => one.readyState === 1) && follower.status === 'streaming'")
            client.post("/publish", content="1 10").raise_for_status()
            client.post("/mode", content="ok").raise_for_status()  # which cuts all streams
            client.post("/publish", content="11 20").raise_for_status()
            browser.until("[...got, followed].every(numbers => numbers.length >= 20)")
            assert browser.evaluate("[...got, followed]") == [list(range(1, 21))] * (STREAMS + 1)
            assert browser.evaluate(PROTOCOLS.format("navigation")) == ["h2"]
