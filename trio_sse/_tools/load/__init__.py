"""`trio-sse load`: many streams to one endpoint, and a report of the results.

It may import the packages below `_tools`.
"""
