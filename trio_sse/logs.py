"""Ways to write the log that do not make a server wait, and that programs can read."""

from __future__ import annotations

from ._logging.background import BackgroundHandler
from ._logging.json_lines import JSONFormatter
from ._module_metadata import set_public_module

__all__ = ["BackgroundHandler", "JSONFormatter"]

set_public_module(globals())
