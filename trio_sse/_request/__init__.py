"""Reading requests: who sends them, their bounds, their bodies, and which route they lead to.

It may import `_stream` and the packages below it.
"""
