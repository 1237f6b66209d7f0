"""Hypercorn's configuration for `trio-sse serve --host hypercorn`; needs the extra `hypercorn`."""

from __future__ import annotations

import logging
import ssl
from typing import final

from hypercorn.config import Config


@final
class _ContextConfig(Config):
    """A configuration whose TLS context is made elsewhere, and whose log is Python's."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__()
        self._context = context
        self.errorlog = logging.getLogger("hypercorn.error")

    @property
    def ssl_enabled(self) -> bool:
        return self._context is not None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        return self._context


def make_config(context: ssl.SSLContext | None, *, access_log: bool) -> Config:
    """Return a configuration that serves with this TLS context, or without TLS."""
    config = _ContextConfig(context)
    if access_log:
        config.accesslog = logging.getLogger("hypercorn.access")
    return config
