"""A client of event streams, for Trio programs: `EventSource` for Python. It needs the extra `client`.

It is what `trio-sse tail` uses, and works with any server.
"""

from __future__ import annotations

from ._client.errors import StreamRefused, StreamUnavailable
from ._client.status import OnStatus, SourceStatus
from ._module_metadata import set_public_module

try:
    from ._client.source import EventSource
except ModuleNotFoundError as error:
    if error.name != "httpx":
        raise
    raise ImportError("trio_sse.client needs its extra: pip install 'trio-sse[client]'") from error

__all__ = ["EventSource", "OnStatus", "SourceStatus", "StreamRefused", "StreamUnavailable"]

set_public_module(globals())
