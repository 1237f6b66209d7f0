"""The program `trio-sse`: its commands, each in its own module that is imported when it is needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

try:
    import click
except ModuleNotFoundError:
    sys.exit("trio-sse: the program needs its extra: pip install 'trio-sse[cli]'")

from .options import Command
from .output import reader_may_leave

_COMMANDS = ("demo", "doctor", "load", "serve", "tail", "top")


class _Program(Command, click.Group):
    """The commands; their exit status does not depend on who reads their output."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module, and return the command."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"{__package__}.{cmd_name}"), cmd_name)
        return command

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command, and leave nothing in the buffers of the standard streams.

        Python flushes them when it exits, and makes the exit status 120 if that fails.
        """
        _open_closed_streams()
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        try:
            sys.exit(super().main(args, prog_name, complete_var, False, **extra))
        except click.ClickException as error:
            with reader_may_leave(sys.stderr):
                error.show()
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(1)
        finally:
            for stream in (sys.stdout, sys.stderr):
                with reader_may_leave(stream):
                    pass


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trio-sse")
def main() -> None:
    """A Server-Sent Events server on Trio."""


def _open_closed_streams() -> None:
    """Replace standard streams that are `None`, because they were closed before the program started."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # until the program ends
