"""A server whose import lasts until somebody has opened the file that the environment names."""

from __future__ import annotations

import os
from pathlib import Path

from trio_sse import Server

Path(os.environ["FIFO"]).read_text()

server = Server()
