"""A scenario's server on a host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from quart_trio import QuartTrio

from trio_sse import Server
from trio_sse.asgi import EventStream, event_stream
from trio_sse.quart import QuartSSE

from ..support.certificates import Certificate
from ..support.host_apps import make_app
from .hosts import Host
from .scenario import Scenario
from .world import World


@final
class Site:
    """A scenario's server, or its app on hypercorn; it can be served again and again."""

    def __init__(self, host: Host, scenario: Scenario, world: World, certificate: Certificate | None) -> None:
        self.host = host
        self.scenario = scenario
        self.world = world
        self.certificate = certificate
        self.server: Server | None = None
        self.app: Any = None
        self.owners: Sequence[Server | QuartSSE | EventStream]
        streams = {name: world.handler(handler) for name, handler in scenario.streams(world).items()}
        methods = ["GET", "POST"]
        cleartext = host.is_http2 and not host.has_tls
        options: dict[str, Any] = {"http2_cleartext": cleartext, **scenario.server}
        hub, bounds = world.hub, {"drain_timeout": 5.0}
        of_streams = {"dumps": world.dumps, **scenario.options}
        if host.kind == "native":
            self.server = Server(
                None if scenario.app is None else scenario.app(world),
                hub=hub,
                **{**bounds, **options, **of_streams},
            )
            self.owners = [self.server]
            for name, handler in streams.items():
                self.server.route(f"/{name}", methods=methods)(handler)
            if scenario.extend is not None:
                scenario.extend(world, self.server)
        elif host.kind == "quart":
            self.app = QuartTrio(__name__)
            sse = QuartSSE(self.app, hub=hub, **{**bounds, **of_streams})
            self.owners = [sse]
            for name, handler in streams.items():
                sse.route(f"/{name}", endpoint=name, methods=methods)(handler)
            if scenario.extend_quart is not None:
                scenario.extend_quart(world, self.app, sse)
        else:
            endpoints = {
                name: event_stream(handler, hub=hub, methods=methods, **of_streams)
                for name, handler in streams.items()
            }
            self.owners = list(endpoints.values())
            self.app = make_app(host.kind, endpoints, hub)
        if self.app is not None and scenario.middleware is not None:
            self.app = scenario.middleware(world, self.app)
        if self.server is None and host.transport != "hypercorn":
            self.server = Server(self.app, hub=hub, **{**bounds, **options})
        for owner in self.owners:
            owner.on_connect(world.on_connect)
            owner.on_disconnect(world.on_disconnect)

    def leftovers(self) -> list[str]:
        """Return what is registered of streams, subscriptions and connections; nothing, if none is open."""
        statistics = self.world.hub.statistics()
        counts: dict[str, float] = {
            "subscriptions": statistics.subscriptions,
            "topics": statistics.topics,
            "queued events": statistics.queued_events,
            "waiting events": statistics.waiting_events,
            "events in the inbox": statistics.inbox_events,
        }
        others = [owner for owner in self.owners if owner is not self.server]
        counts["open streams"] = sum(owner.statistics().open_streams for owner in others)
        if self.server is not None:
            own = self.server.statistics()
            counts["open streams"] += own.open_streams
            counts["endpoints"] = own.endpoints
            counts["background calls"] = own.background_calls
            counts["pending bytes"] = own.pending_bytes
            counts["places"] = not self.server._admission.is_empty
            for scope in self.server._manager.serve_scopes:
                counts["watched sockets"] = len(scope.disconnects or ())
                counts["keepalives"] = len(scope.keepalives)
                counts["waiting connections"] = len(scope.waiting)
                counts["responses of apps"] = len(scope.app_responses)
        return [f"{count:g} {what}" for what, count in counts.items() if count]
