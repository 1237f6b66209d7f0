"""What a session of a shared log may have besides: it stores runs, for all hubs that share the log.

A run has texts that only grow, records of events that are only added, a state, a checkpoint and an end. What
a name, a record, a state or an end contains is up to the hubs.

Fencing: a run is held by one holder, and has the number of its attempt. A run may be taken over when the
lease of its holder has passed. It then has another attempt, or an end, and changes of the old holder are
refused.

When a run is taken over, the store notes how much of it there is, with a random name for what follows. So
a node that has read more of it, before the store was restored to an older state, recognizes that it is void.

A run's changes have numbers, each one more than the one before. So changes whose reply was lost can be sent
again, and a holder notices if the store has lost some.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import NamedTuple, Protocol, final, runtime_checkable


class RunBounds(NamedTuple):
    """How many runs may be going on: in all, and of one owner; `None` for no bound."""

    max_runs: int | None
    max_runs_per_owner: int | None


class AttemptStart(NamedTuple):
    """Where an attempt after the first has begun.

    Attributes:
        epoch: a random name of the attempt; letters and digits.
        events, state, lengths: how many events there were, the state's version, and the bytes of each text.
    """

    epoch: str
    events: int
    state: int
    lengths: tuple[int, ...]


class NewRun(NamedTuple):
    """A run that is to be stored.

    Attributes:
        id: its id; it must not contain a colon.
        owner, key: as for `Runs.start`.
        created_at: in seconds since 1970.
        seconds: how long it may be kept without an end.
        ttl: how many seconds it is kept after its end.
        function, arguments: what another holder can resume it with; `None` if none can.
        attempts: how many holders may try it.
        starts: of the attempts that it has had, if it is stored again.
    """

    id: str
    owner: str | None
    key: str | None
    created_at: float
    seconds: float
    ttl: float
    function: str | None = None
    arguments: str | None = None
    attempts: int = 1
    starts: Sequence[AttemptStart] = ()


@final
class Refusal(Enum):
    """Why a run was not stored."""

    RUNS = "too many runs are going on"
    RUNS_OF_OWNER = "too many runs of this owner are going on"


class TextPiece(NamedTuple):
    """A piece that a text grows by; texts are numbered in the order in which they began."""

    number: int
    name: str
    piece: bytes


class RunChanges(NamedTuple):
    """Changes of a run by its holder, which are stored together.

    Attributes:
        id, attempt: which run, and as which attempt.
        follows: the number of the changes before.
        number: of these; above `follows`.
        size: the bytes of the whole run, with these.
        pieces: by which its texts grow.
        events: records of events.
        state: the state's version and the state, if it has changed.
        checkpoint: for who resumes the run.
        end: the run's end, if it has ended.
        is_released: whether another holder is to resume it now.
        has_failed: whether this attempt counts all the same, since the holder could not go on with it.
    """

    id: str
    attempt: int
    follows: int
    number: int
    size: int
    pieces: Sequence[TextPiece] = ()
    events: Sequence[bytes] = ()
    state: tuple[int, str] | None = None
    checkpoint: str | None = None
    end: str | None = None
    is_released: bool = False
    has_failed: bool = False


@final
class Outcome(Enum):
    """What has become of changes."""

    STORED = "stored"
    """They are stored, now or already."""

    WATCHED = "watched"
    """The same, and other holders show the run."""

    LOST = "lost"
    """The run has ended, or somebody else holds it."""

    BEHIND = "behind"
    """The store has lost the changes before; these were not stored."""

    MISSING = "missing"
    """There is no such run."""


class HeldRuns(NamedTuple):
    """What a holder learns when it renews its lease.

    Attributes:
        ids: the runs that it holds.
        cancelled: those among them that are to be cancelled, and why.
        watched: those among them that other holders show.
    """

    ids: Collection[str]
    cancelled: Mapping[str, str]
    watched: Collection[str]


class RunQuery(NamedTuple):
    """What is asked of a run: what follows after a position.

    Attributes:
        id: which run.
        lengths: how many bytes of each text are known; `None` to ask for no content.
        events: how many events are known.
        state: the version of the state that is known.
        is_watched: note that the run is shown for the next seconds.
    """

    id: str
    lengths: Sequence[int] | None = None
    events: int = 0
    state: int = 0
    is_watched: bool = False


class StoredRun(NamedTuple):
    """A run as it is stored.

    Attributes:
        id, owner, key, created_at: as in `NewRun`.
        is_held: whether somebody holds it, as far as is known.
        attempt: which attempt it is, from 1.
        number: of the newest changes.
        size: the bytes of its texts, records and state.
        lengths: the bytes of each text.
        event_count: how many events it has.
        state_version: the version of its state; 0 for none.
        end: how it has ended.
        names, pieces: of each text its name, and what follows after the position; none without content.
        events: what follows after the position.
        state: the state, if its version is not the one that is known.
        starts: of the attempts after the first, oldest first.
    """

    id: str
    owner: str | None
    key: str | None
    created_at: float
    is_held: bool
    attempt: int
    number: int
    size: int
    lengths: Sequence[int]
    event_count: int
    state_version: int
    end: str | None
    names: Sequence[str] = ()
    pieces: Sequence[bytes] = ()
    events: Sequence[bytes] = ()
    state: str | None = None
    starts: Sequence[AttemptStart] = ()


class ClaimedRun(NamedTuple):
    """A run that is resumed.

    Attributes:
        id, function, arguments: as in `NewRun`.
        attempt: the new attempt's number.
        number: of the newest changes.
        checkpoint: the newest one.
        seconds: how many seconds are left of those for which it may be kept without an end.
        cancel_reason: why it is to be cancelled.
    """

    id: str
    function: str
    arguments: str
    attempt: int
    number: int
    checkpoint: str | None
    seconds: float
    cancel_reason: str | None


class TakenOver(NamedTuple):
    """What has become of runs whose holders' leases have passed.

    Attributes:
        lost: the runs that have ended by this, with the end that was passed.
        cancelled: those that have ended by this, and were to be cancelled.
        claimed: the runs that are to be resumed.
    """

    lost: Sequence[str]
    claimed: Sequence[ClaimedRun]
    cancelled: Sequence[str] = ()


@runtime_checkable
class RunSession(Protocol):
    """A session that stores runs. Each method is one step of the store, and raises what the others raise.

    A lease is held by the methods that have `seconds`, as in `LeaseSession.hold`.
    """

    async def create_run(self, holder: str, seconds: float, run: NewRun, bounds: RunBounds) -> str | Refusal:
        """Store a run that a holder begins; return its id.

        If a run of this owner with this key is kept, return the id of that one instead. If `holder` has
        created this run already, return its id.
        """

    async def commit_runs(
        self, holder: str, seconds: float, changes: Sequence[RunChanges]
    ) -> Sequence[Outcome]:
        """Store the changes of runs, each all or none; return what has become of each.

        A run that ends is kept for its `ttl`, and then removed with all that belongs to it.
        """

    async def hold_runs(self, holder: str, seconds: float) -> HeldRuns:
        """Renew a holder's lease; with 0 seconds, end it."""

    async def read_runs(self, holder: str, queries: Sequence[RunQuery]) -> Sequence[StoredRun | None]:
        """Return what the store has of runs; `None` for a run that is not kept."""

    async def list_runs(self, owner: str | None, limit: int) -> Sequence[StoredRun]:
        """Return the runs that are kept, of one owner or of all, without their content."""

    async def cancel_run(self, id: str, reason: str, end: str) -> bool:
        """Ask a run's holder to cancel it; return whether there is such a run.

        If nobody holds it, it ends with `end` at once; if its holder dies before the run has ended, it ends
        with `end` when it is taken over, unless another holder resumes it.
        """

    async def take_over_runs(
        self,
        holder: str,
        seconds: float,
        functions: Collection[str],
        end: str,
        limit: int,
        *,
        released_only: bool = False,
    ) -> TakenOver:
        """Take over some of the runs whose holders' leases have passed, or only of those that nobody holds.

        Drop what is no longer kept.

        Those with a function of `functions` are claimed, as often as they may be tried. Those with another
        function are left to others. The rest ends, with `end`. The lease of `holder` is renewed if it has
        claimed something.
        """

    async def forget_run(self, holder: str, id: str) -> None:
        """Remove a run with all that belongs to it, if `holder` holds it and has stored no changes."""


def encode_starts(starts: Sequence[AttemptStart]) -> str:
    """Return the starts of attempts as the stores keep them: each ends with a space."""
    return "".join(
        [
            "-".join(map(str, (epoch, events, state, *lengths))) + " "
            for epoch, events, state, lengths in starts
        ]
    )


def decode_starts(text: str) -> tuple[AttemptStart, ...]:
    """Return what was encoded."""
    starts = []
    for item in text.split():
        epoch, *counts = item.split("-")
        events, state, *lengths = map(int, counts)
        starts.append(AttemptStart(epoch, events, state, tuple(lengths)))
    return tuple(starts)
