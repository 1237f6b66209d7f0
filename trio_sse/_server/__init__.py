"""The server: accepting connections, reading requests, routing, hosting an app, and draining.

It may import every package below it: `_asgi`, `_websocket`, `_stream` and what these may import.
"""
