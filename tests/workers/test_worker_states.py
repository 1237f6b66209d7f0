"""States, presence lists and revocations of several workers, also after one of them has died."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from ..support import http
from ..support.programs import RawStream, serving
from ..support.waiting import until_blocking
from ..support.workers import pids_of

pytestmark = pytest.mark.integration

APP = "tests.support.apps.state_app:server"


def test_workers_have_one_state_one_presence_list_and_revoke_together(tmp_path: Path) -> None:
    with serving(APP, "--workers", "2", "--log", f"sqlite:{tmp_path / 'log.db'}") as (_, url):
        first = pids_of(url, 2)
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(RawStream(f"{url}/votes")) for _ in range(6)]
            for stream in streams:
                stream.read_until(b'"count":0')
            with ThreadPoolExecutor(8) as pool:
                for vote in [pool.submit(http.post, f"{url}/votes") for _ in range(16)]:
                    vote.result().raise_for_status()
            for stream in streams:
                stream.read_until(b'{"count":16}')

            rooms = [stack.enter_context(RawStream(f"{url}/room/{name}")) for name in "abcdef"]
            for room in rooms:
                room.read_until(b"\n\n")
            until_blocking(lambda: http.get(f"{url}/members").text == "a b c d e f")
            with contextlib.suppress(httpx.HTTPError):
                http.post(f"{url}/die")
            until_blocking(lambda: len(pids_of(url, 2) - first) == 1)
            with RawStream(f"{url}/votes") as late:
                assert b"event: snapshot" in late.read_until(b'{"count":16}')
        until_blocking(lambda: http.get(f"{url}/members").text == "")

        with contextlib.ExitStack() as stack:
            mine = [stack.enter_context(RawStream(f"{url}/mine/{user}")) for user in "aaaaaab"]
            for stream in mine:
                stream.read_until(b"\n\n")
            assert 0 <= int(http.post(f"{url}/mine/a").text) <= 6
            for stream in mine[:6]:
                assert not stream.rest().endswith(b"0\r\n\r\n")
            assert int(http.post(f"{url}/mine/b").text) in (0, 1)
