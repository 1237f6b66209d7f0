"""The demo of `trio-sse demo`: a live dashboard of the machine that it runs on."""

from ._dashboard import TOPICS, Dashboard

__all__ = ["TOPICS", "Dashboard"]
