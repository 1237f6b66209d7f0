"""The console: a page and an event stream that show what a server does, and actions on it.

It sees the server through `ConsoleSource` only, and may import `_stream` and what is below it.
"""
