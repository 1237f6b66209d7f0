"""Spans of events: where they are published, and where each node delivers them."""

from __future__ import annotations

import pytest
import trio.testing
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from trio_sse import Hub
from trio_sse._hub.hub import engine_of
from trio_sse._shared_log.record import decode_record, encode_record

from ..support.list_log import ListLog
from ..support.serving import running
from ..support.waiting import until
from .spans import TRACE, Spans, attributes, id_of, parent_of


async def test_an_event_is_traced_to_each_node_that_delivers_it(spans: Spans) -> None:
    log = ListLog()
    here, there = (Hub(log=log, tracing=spans.tracing) for _ in range(2))
    async with running(here), running(there), there.subscribe("a") as subscription:
        await until(lambda: here.is_ready and there.is_ready)
        with trace.use_span(spans.provider.get_tracer("test").start_span("work"), end_on_exit=True) as work:
            await here.publish("a", "1")
            await here.publish("a", "2")
        await subscription.__anext__()
        await until(lambda: len(spans("deliver")) >= 2)
        await until(lambda: sum(len(span.links) for span in spans("deliver")) == 4)
    published = {id_of(span) for span in spans("publish")}
    assert [parent_of(span) for span in spans("publish")] == [id_of(work)] * 2  # type: ignore[arg-type]
    for span in spans("publish"):
        assert span.kind is SpanKind.PRODUCER
        assert attributes(span)["messaging.system"] == "trio_sse"
        assert attributes(span)["messaging.destination.name"] == "a"
    for span in spans("deliver"):
        assert span.kind is SpanKind.CONSUMER
        assert parent_of(span) in published
        links = {(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") for link in span.links}
        assert links <= published
        assert attributes(span)["messaging.batch.message_count"] == len(links)
        assert attributes(span)["messaging.destination.name"] == "a"
    assert {attributes(span)["trio_sse.deliveries"] for span in spans("deliver")} >= {0}


def delivered(spans: Spans) -> int:
    return sum(attributes(span)["messaging.batch.message_count"] for span in spans("deliver"))


async def test_what_is_published_in_memory_has_its_id(spans: Spans) -> None:
    hub = Hub(tracing=spans.tracing, inbox=1)
    state = hub.state("state", {"a": 1})
    async with running(hub):
        await hub.publish("a", "x", idempotency_key="1")
        await hub.publish("a", "x", idempotency_key="1")  # is not placed
        await trio.testing.wait_all_tasks_blocked()  # the first that follows is taken at once
        hub.publish_nowait("a", "y")
        hub.publish_nowait("a", "z")
        with pytest.raises(trio.WouldBlock):
            hub.publish_nowait("a", "z")
        await until(lambda: delivered(spans) == 3)
        await state.set({"a": 2})
        await state.update({"a": 3})
        await until(lambda: delivered(spans) == 5)
        state.set_nowait({"a": 4})
        await until(lambda: delivered(spans) == 6)
        ids = [attributes(span).get("messaging.message.id") for span in spans("publish")]
        # What has a key may never be placed, so its span does not wait for that.
        assert [id for id in ids[2:] if id] == [f"{hub.last_event_id[:-1]}{number}" for number in range(2, 7)]
        (refused,) = [span for span in spans("publish") if span.status.status_code is StatusCode.ERROR]
        assert attributes(refused)["error.type"] == "WouldBlock"
        assert attributes(spans("deliver")[-1])["messaging.message.id"] == hub.last_event_id
        state.close()


async def test_what_is_published_while_the_hub_ends_is_traced(spans: Spans) -> None:
    hub = Hub(tracing=spans.tracing, inbox=1)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        await hub.publish("a", "1")
        await trio.testing.wait_all_tasks_blocked()
        hub.publish_nowait("a", "2")
        hub.publish_nowait("a", "3")
        with trio.move_on_after(0):
            await hub.publish("a", "4")
        await trio.testing.wait_all_tasks_blocked()
        hub.publish_nowait("a", "5")
        hub.publish_nowait("a", "6")
        nursery.cancel_scope.cancel()
    failed = [span for span in spans("publish") if span.status.status_code is StatusCode.ERROR]
    assert [attributes(span)["error.type"] for span in failed] == ["Cancelled"]
    assert delivered(spans) == 5
    assert len(spans("publish")) == 6


def test_what_another_node_has_written_is_checked(spans: Spans) -> None:
    hub = Hub()
    message = engine_of(hub).make_message("a", "x", None, None, None)
    for text in (
        "",
        "00-0-0-01",
        f"00-{TRACE}-b7ad6b7169203331-00",
        "x" * 500,
        f"01-{TRACE}-b7ad-01",
        "a-b-c-d",
    ):
        message.trace = text
        read = decode_record(encode_record(message, "node-1"))
        assert read.trace == text
        assert spans.tracing.begin_delivery([read]) is None
    message.trace = f"00-{TRACE}-b7ad6b7169203331-01"
    assert spans.tracing.begin_delivery([decode_record(encode_record(message, "node-1"))]) is not None


async def test_what_is_not_sampled_costs_and_carries_nothing() -> None:
    spans = Spans(sampler=ALWAYS_OFF)
    log = ListLog()
    hub = Hub(log=log, tracing=spans.tracing)
    async with running(hub):
        await hub.publish("a", "x")
    assert decode_record(log.entries[-1].record).trace is None
    assert not spans()
