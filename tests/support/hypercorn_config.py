"""A configuration of hypercorn for tests."""

from __future__ import annotations

from typing import Any

from hypercorn.config import Config

from .waiting import SECONDS


def make_config(**options: Any) -> Config:
    """Return a configuration that listens on a free port and keeps connections that are idle."""
    config = Config()
    config.bind, config.errorlog = ["127.0.0.1:0"], None
    config.keep_alive_timeout = SECONDS  # not 5 s, which a client may take on a busy machine
    for name, value in options.items():
        setattr(config, name, value)
    return config
