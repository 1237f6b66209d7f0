"""Tracing with OpenTelemetry: a span for each stream, each publish, and each batch that a hub delivers.

::

    hub = Hub(tracing=Tracing())
    server = Server(hub=hub)

Every server, `QuartSSE` and `event_stream` that has the hub is traced. Programs choose an SDK and its
exporters as for any other library: this module needs the API alone, and without an SDK it does nothing.

Needs the extra `otel`: pip install 'trio-sse[otel]'.
"""

from __future__ import annotations

try:
    import opentelemetry.trace
except ImportError as error:
    raise ImportError("trio_sse.otel needs its extra: pip install 'trio-sse[otel]'") from error

from ._module_metadata import set_public_module
from ._otel.tracing import Tracing

__all__ = ["Tracing"]

del opentelemetry

set_public_module(globals())
