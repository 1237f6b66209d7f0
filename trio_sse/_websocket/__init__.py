"""WebSockets: messages, the connection that handlers use, and the subprotocol.

It may import `_stream`, and everything that `_stream` may import.
"""
