"""Worker processes that serve side by side, and their supervisor.

It may import `_program` and the packages below it.
"""
