"""Streams in ASGI apps: types, requests, transports and responses.

It may import `_stream` and what that may import.
"""
