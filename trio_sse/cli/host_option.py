"""The option `--host`: which server runs an app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

OWN_HOST = "trio_sse"
HYPERCORN = "hypercorn"

if TYPE_CHECKING:
    _TextType = click.ParamType[str]
else:
    _TextType = click.ParamType  # which is generic in new versions only


class HostName(_TextType):
    """The name of a server. To uvicorn and others, `--host` is an address: the error says what it is here."""

    name = "host"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, if it is one."""
        if value not in (OWN_HOST, HYPERCORN):
            self.fail(
                f"{value!r} is neither {OWN_HOST} nor {HYPERCORN}; use --bind to say where to listen",
                param,
                ctx,
            )
        return str(value)
