"""Event streams for Quart-Trio apps.

::

    app = QuartTrio(__name__)
    sse = QuartSSE(app)

    @sse.route("/prices/<symbol>")
    async def prices(connection: Connection, symbol: str) -> None:
        await connection.subscribe(f"prices/{symbol}")

    await sse.hub.publish("prices/ABC", {"price": 42})

A handler begins to run inside of Quart's handling of the request: `before_request` has run, `abort` and error
handlers work, and `after_this_request` can add headers and cookies to the response. When it first sends
something, Quart finishes the response's head, with `after_request` and all, and the handler goes on as
the stream. `request`, `session` and `g` stay readable in it; what is changed of them by then reaches nobody.

Needs the extra `quart`: pip install 'trio-sse[quart]'.
"""

from .._module_metadata import set_public_module
from .._stream.manager import StreamStatistics
from ._extension import QuartSSE

__all__ = ["QuartSSE", "StreamStatistics"]

set_public_module(globals())
