"""The server: accepting, reading requests, routing, hosting an app, and draining.

It may import every package below it: `_asgi`, `_websocket`, `_stream`, ....
"""
