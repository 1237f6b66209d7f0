"""Options that belong together, which a command takes as one argument."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import wraps
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def grouped(
    argument: str,
    make: Callable[..., object],
    names: Collection[str],
    options: Sequence[Callable[[F], F]],
) -> Callable[[F], F]:
    """Return a decorator that adds options to a command.

    Args:
        argument: the command's argument for them.
        make: is called with the options' values, by name, and returns the argument.
        names: those of the values.
        options: what `click.option` returns for each.
    """

    def decorate(command: F) -> F:
        @wraps(command)
        def collect(*args: Any, **values: Any) -> Any:
            own = {name: values.pop(name) for name in names}
            return command(*args, **{argument: make(**own)}, **values)

        added: F = collect  # type: ignore[assignment]  # it takes other arguments, which only click passes
        for option in reversed(options):
            added = option(added)
        return added

    return decorate
