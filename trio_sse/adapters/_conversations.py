"""The runs of one conversation, which clients find by its id: they do not know those of its runs."""

from __future__ import annotations

from .._http.exceptions import HTTPException
from .._runs.runs import Runs
from .._runs.view import RunView
from ._protocol import check_whole

_LONGEST = 256


def owner_of_conversation(who: str | None, id: str) -> str:
    """Return the owner of a conversation's runs; raises `HTTPException` if its id is too long.

    What comes before the first slash says who it is, whatever characters their names have.
    """
    name = "" if who is None else "=" + who.replace("%", "%25").replace("/", "%2F")
    owner = f"{name}/{id}"
    if len(owner) > _LONGEST:
        raise HTTPException(400, "the conversation's id is too long")
    check_whole("the conversation's id", owner)
    return owner


async def newest(runs: Runs, owner: str) -> RunView | None:
    """Return the newest run that goes on; `None` if there is none."""
    ids = [info.id for info in await runs.list(owner=owner) if not info.status.is_end]
    return runs.get(ids[-1]) if ids else None


async def cancel_all(runs: Runs, owner: str) -> None:
    """Cancel all runs that go on."""
    for info in await runs.list(owner=owner):
        if not info.status.is_end:
            await runs.get(info.id).cancel()
