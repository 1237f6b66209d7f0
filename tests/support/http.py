"""httpx's functions, with a timeout that a busy machine keeps, and quick."""

from __future__ import annotations

import ssl
from functools import partial

import httpx

from .waiting import SECONDS

# It trusts nobody: reading the usual certificates takes longer than most requests of tests, 30 ms.
_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

get = partial(httpx.get, timeout=SECONDS, verify=_TLS)
post = partial(httpx.post, timeout=SECONDS, verify=_TLS)
stream = partial(httpx.stream, timeout=SECONDS, verify=_TLS)
Client = partial(httpx.Client, timeout=SECONDS, verify=_TLS)
