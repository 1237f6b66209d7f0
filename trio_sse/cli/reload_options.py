"""The options of `--reload`."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, final

import click
import trio

from .._program.errors import ProgramError
from .._program.listening import ListenOptions
from .grouped_options import grouped


@final
class ReloadValues(NamedTuple):
    """The values of the options."""

    reload: bool
    reload_dirs: tuple[str, ...]
    reload_includes: tuple[str, ...]
    reload_excludes: tuple[str, ...]

    def run(self, listen: ListenOptions) -> None:
        """Run the program as a child process until a signal ends it.

        Raises:
            ProgramError: an address is not available, or the extra is missing.
        """
        try:
            from .._program.file_watcher import Watched
        except ImportError as error:
            raise ProgramError(str(error)) from None
        from .._program.reloader import run_reloading

        watched = Watched(
            folders=[Path(folder) for folder in self.reload_dirs or (".",)],
            include=self.reload_includes or ("*.py",),
            exclude=self.reload_excludes,
        )
        trio.run(run_reloading, listen, watched.changes)


add_reload_options = grouped(
    "reload",
    ReloadValues,
    ReloadValues._fields,
    [
        click.option(
            "--reload",
            is_flag=True,
            envvar="TRIO_SSE_RELOAD",
            help="Restart the program when its files change. For development.",
        ),
        click.option(
            "--reload-dir",
            "reload_dirs",
            type=click.Path(exists=True, file_okay=False),
            multiple=True,
            envvar="TRIO_SSE_RELOAD_DIR",
            help="Watch this folder. Can be repeated.  [default: the working directory]",
        ),
        click.option(
            "--reload-include",
            "reload_includes",
            multiple=True,
            envvar="TRIO_SSE_RELOAD_INCLUDE",
            metavar="PATTERN",
            help="Watch files like this. Can be repeated.  [default: *.py]",
        ),
        click.option(
            "--reload-exclude",
            "reload_excludes",
            multiple=True,
            envvar="TRIO_SSE_RELOAD_EXCLUDE",
            metavar="PATTERN",
            help="Do not watch files like this. Can be repeated.",
        ),
    ],
)
