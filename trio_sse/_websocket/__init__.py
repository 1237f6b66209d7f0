"""WebSockets: messages, the connection that handlers use, and the subprotocol.

It may import `_stream`, everything that `_stream` may import, and wsproto.
"""
