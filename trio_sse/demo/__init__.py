"""What `trio-sse demo` serves: a live dashboard of the machine that it runs on.

It may import public names of `trio_sse`, and psutil.
"""

from ._dashboard import TOPICS, Dashboard

__all__ = ["TOPICS", "Dashboard"]
