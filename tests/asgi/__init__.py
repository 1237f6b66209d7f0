"""Tests of streams in ASGI apps."""
