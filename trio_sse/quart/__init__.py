"""Event streams for Quart-Trio apps.

::

    app = QuartTrio(__name__)
    sse = QuartSSE(app)

    @sse.route("/prices/<symbol>")
    async def prices(connection: Connection, symbol: str) -> None:
        await connection.subscribe(f"prices/{symbol}")

    await sse.hub.publish("prices/ABC", {"price": 42})

A handler starts inside Quart's handling of the request. `before_request` has run, `abort` and error handlers
work, and `after_this_request` can add headers and cookies to the response. When the handler first sends
something, Quart completes the response's head, including `after_request`, and the handler continues as the
stream. `request`, `session` and `g` stay readable in the handler, but later changes to them have no effect.

Needs the extra `quart`: pip install 'trio-sse[quart]'.
"""

from .._module_metadata import set_public_module
from .._stream.statistics import StreamStatistics as StreamStatistics

try:
    from ._extension import QuartSSE
except ImportError as error:
    raise ImportError("trio_sse.quart needs its extra: pip install 'trio-sse[quart]'") from error

__all__ = ["QuartSSE"]

set_public_module(globals())
