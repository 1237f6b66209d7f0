"""Listing streams, ending those of one identity, and credentials that expire, on every host."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from trio_sse import ConnectionInfo, EndReason

from ...support.hosts import FAST, PATIENT, Host, Run, until_subscribed
from ...support.waiting import until

pytestmark = pytest.mark.integration


def listed(host: Host, identity: str | None = None) -> list[ConnectionInfo]:
    return [one for owner in host.owners for one in owner.connections(identity=identity)]


def closed(host: Host, identity: str, *, reconnect: bool) -> int:
    return sum(owner.close_connections(identity=identity, reconnect=reconnect) for owner in host.owners)


async def test_the_streams_of_one_identity_are_listed_and_cut(run: Run) -> None:
    async with run() as host, host.opened("/live?user=ada") as ada, host.opened("/live?user=bob") as bob:
        await until_subscribed(host, 2)
        await host.hub.publish("live", "one")
        assert (await ada.event()).data == (await bob.event()).data == "one"
        (info,) = listed(host, "ada")
        assert (info.identity, info.path, info.topics, info.transport) == ("ada", "/live", ("live",), "sse")
        assert info.events_sent == 1 < info.bytes_sent
        assert (info.queued_events, info.queued_bytes) == (0, 0)
        assert info.http_version == ("2" if host.speaks_http2 else "1.1")
        assert {one.identity for one in listed(host)} == {"ada", "bob"}
        if host.server is not None:  # it knows the streams of its app by the same numbers
            (same,) = host.server.connections(id=info.id)
            assert (same.identity, same.host, same.peer) == ("ada", info.host, info.peer)
        assert closed(host, "eve", reconnect=True) == 0
        assert closed(host, "ada", reconnect=True) == 1
        await host.hub.publish("live", "two")
        assert await ada.rest() == []
        assert host.is_cut_or_ended(ada)
        assert (await bob.event()).data == "two"
        assert await host.life.wait_ends(1) == [EndReason.REVOKED]
        assert [one.identity for one in listed(host)] == ["bob"]
        assert closed(host, "bob", reconnect=False) == 1
        assert await bob.rest() == []
        assert bob.is_ended
        assert await host.life.wait_ends(2) == [EndReason.REVOKED, EndReason.FINISHED]
        async with host.opened("/live?user=eve") as eve, host.opened("/quiet") as later:
            assert await host.hub.revoke("bob") == 0
            await host.life.wait_opened(4)
            assert host.life.last is not None
            host.life.last.identity = "ada"
            assert await host.hub.revoke("eve") == await host.hub.revoke("ada") == 1
            assert await eve.rest() == await later.rest() == []
            assert host.is_cut_or_ended(eve)
            assert (await host.life.wait_ends(4))[2:] == [EndReason.REVOKED] * 2


async def test_a_poll_that_waits_is_listed_and_cut_with_its_cursor(run: Run) -> None:
    async with run() as host, trio.open_nursery() as nursery:
        answers = []

        async def poll() -> None:
            answers.append(await host.poll("/live?user=ada&wait=50"))

        nursery.start_soon(poll)
        await until_subscribed(host)
        assert [one.transport for one in listed(host, "ada")] == ["poll"]
        assert closed(host, "ada", reconnect=True) == 1
        await until(lambda: bool(answers))
        assert answers == [{"events": [], "last_event_id": host.hub.last_event_id}]
        assert await host.life.wait_ends(1) == [EndReason.REVOKED]


async def test_a_stream_is_cut_when_its_credentials_expire(run: Run, clock: MockClock) -> None:
    async with run(**PATIENT) as host, host.opened("/quiet?user=ada&left=60") as stream:
        began_at = trio.current_time()
        clock.rate = FAST
        await stream.rest()
        assert trio.current_time() - began_at < 60 + 20 * FAST
        assert host.is_cut_or_ended(stream)
        assert await host.life.wait_ends(1) == [EndReason.EXPIRED]
        assert listed(host) == []
