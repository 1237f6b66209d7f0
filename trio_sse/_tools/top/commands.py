"""What the user of `trio-sse top` wants to be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Quit:
    """End the program."""


@final
@dataclass(frozen=True, slots=True)
class Watch:
    """Watch a topic, instead of another one; with `None`, watch none."""

    topic: str | None


@final
@dataclass(frozen=True, slots=True)
class Post:
    """Send an action to the server.

    Attributes:
        path: which one.
        body: what it is to be done with.
        done: what to say when it has been done.
    """

    path: str
    body: Mapping[str, str | int]
    done: str


Command = Quit | Watch | Post
