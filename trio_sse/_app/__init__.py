"""Calls of the ASGI app that a server hosts: requests, streams, WebSockets and the lifespan.

It may import `_request` and the packages below it.
"""
