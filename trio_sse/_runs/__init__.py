"""Runs: work that goes on without its connection, and whose output can be joined at any time."""
