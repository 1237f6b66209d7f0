"""Print the spans of publishers, nodes and streams to the console: `python -m examples.tracing`.

It needs `pip install 'trio-sse[otel]' opentelemetry-sdk`.
"""

from __future__ import annotations

import os

import trio
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

from trio_sse import Connection, Hub, Request, Response, Server
from trio_sse.otel import Tracing

PORT = int(os.environ.get("PORT", "8000"))

hub = Hub(tracing=Tracing())
server = Server(hub=hub)


@server.route("/news")
async def news(connection: Connection) -> None:
    is_reconnect = connection.last_event_id is not None
    trace.get_current_span().set_attribute("example.is_reconnect", is_reconnect)
    await connection.subscribe("news")


@server.endpoint("/news", methods=["POST"])
async def publish(request: Request) -> Response:
    await hub.publish("news", request.body.decode(errors="replace"))  # a child of this request's span
    return Response(status=204)


async def main() -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": "news"}))
    provider.add_span_processor(BatchSpanProcessor(ConsoleSpanExporter(), schedule_delay_millis=500))
    trace.set_tracer_provider(provider)
    try:
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(server.serve, "127.0.0.1", PORT)
            print(f"http://127.0.0.1:{addresses[0][1]}", flush=True)
    finally:
        provider.shutdown()


if __name__ == "__main__":
    trio.run(main)
