"""Tests of the logs on Redis and SQLite, and of their URLs."""
