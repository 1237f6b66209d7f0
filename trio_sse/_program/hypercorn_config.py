"""Hypercorn's configuration for `trio-sse serve --http2`; needs the extra `hypercorn`."""

from __future__ import annotations

import ssl
from typing import final

from hypercorn.config import Config


@final
class _ContextConfig(Config):
    """A configuration whose TLS context is made elsewhere."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self._context = context

    @property
    def ssl_enabled(self) -> bool:
        return True

    def create_ssl_context(self) -> ssl.SSLContext:
        return self._context


def make_config(context: ssl.SSLContext) -> Config:
    """Return a configuration that serves with this TLS context."""
    return _ContextConfig(context)
