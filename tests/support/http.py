"""httpx's functions, with a timeout that a busy machine keeps."""

from __future__ import annotations

from functools import partial

import httpx

from .waiting import SECONDS

get = partial(httpx.get, timeout=SECONDS)
post = partial(httpx.post, timeout=SECONDS)
stream = partial(httpx.stream, timeout=SECONDS)
Client = partial(httpx.Client, timeout=SECONDS)
