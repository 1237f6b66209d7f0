"""Tests of the hosting of ASGI apps."""
