"""The program `trio-sse`: its command line."""

from .main import main

__all__ = ["main"]
