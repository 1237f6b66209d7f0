"""Event streams inside of an app's response: the handler runs before the app knows what it will answer.

An app's view must give its response as a whole, head first, while a handler of ours begins to run, may
refuse, and only then has something to send. So the handler gets a task of its own, and a `Launch` connects
the two::

    the app's view                            the handler's task
    launch = stage.launch(manager, handle)  ---> runs
    await launch.ready()                 <--- has something to send, is over, or has raised
    gives its response to the framework
    await stage.carry(launch)            ---> goes on, and the stream is its own

The handler's task is a copy of the view's context, so what the framework keeps there stays readable.

Who hosts the app provides the `Stage`, in the scope's extensions. Our own server lets go of the app when the
response has begun: the handler's task is then all that is left of the request. On other servers the app waits
in `carry` until the stream is over.
"""

from __future__ import annotations

from typing import Protocol, final

import trio

from .._http.request import Request
from .._stream.connection import Connection
from .._stream.end_reason import EndReason
from .._stream.lifecycle import Handle
from .._stream.manager import StreamManager
from .._stream.scope import ServeScope
from .._wire.event import encode_comment
from .._wire.message import Framing, frame

# Polyfills of EventSource ask for padding where a browser holds the first bytes back.
_PADDING = encode_comment(" " * 2047)


def padding(request: Request, framing: Framing) -> bytes:
    """Give what goes before the first event to a client that has asked for padding."""
    if "padding=" in request.target and request.query.get("padding") == "true":
        return frame(_PADDING, framing)
    return b""


class Stage(Protocol):
    """One request to an app, to the streams that may answer it."""

    @property
    def request(self) -> Request:
        """The request, without its body, which is the app's to read."""

    @property
    def serving(self) -> ServeScope:
        """What the streams of its server share."""

    def launch(self, manager: StreamManager, handle: Handle, name: str) -> Launch:
        """Begin to run a handler; `name` is its task's.

        Raises:
            HTTPException: there is no room for another stream.
        """

    async def carry(self, launch: Launch) -> None:
        """Let the stream go on, once the response's head has been given to the host.

        When this returns, or is cancelled, the app has nothing more to do with it.
        """


@final
class Launch:
    """A handler that runs, and the response that it waits for; its `ResponseStart`, to the connection."""

    __slots__ = (
        "_changed",
        "_is_wanted",
        "connection",
        "is_taken_over",
        "outcome",
        "watches_peer",
    )

    connection: Connection  # set by who makes it

    def __init__(self) -> None:
        self.watches_peer = True
        self.is_taken_over = False  # the app has let go of the transport
        self.outcome: Exception | bool | None = None  # of `run_stream`; `None` while it runs
        self._is_wanted = False  # the handler has something to send, or is over
        self._changed: trio.lowlevel.ParkingLot | None = trio.lowlevel.ParkingLot()  # until it is settled

    # The handler's side; see `ResponseStart`

    async def start_response(self) -> None:
        self.request_start()
        await self.wait_started()
        if self.connection.response_start is not None:
            raise trio.ClosedResourceError("the app has answered the request itself, or not at all")

    async def wait_started(self) -> None:
        while self._changed is not None:
            await self._changed.park()

    def request_start(self) -> None:
        self._is_wanted = True
        if self._changed is not None:
            self._changed.unpark_all()

    def end(self, outcome: Exception | bool | None) -> None:
        """Take note of what `run_stream` has returned; of nothing, if it was cancelled."""
        self.outcome = outcome
        self.request_start()

    # The app's side

    async def ready(self) -> bool:
        """Wait until the response may begin; return whether there is a stream for it.

        There is none if it ended before it began: the client has gone, say; `connection.end_reason` tells.
        If this is cancelled, so is the handler.

        Raises:
            Exception: what the handler raised before it had anything to send, its refusal among it.
        """
        try:
            while self._changed is not None and not self._is_wanted:
                await self._changed.park()
        except BaseException:
            self.abandon(EndReason.CLIENT_DISCONNECTED)
            raise
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome is None and self.connection.end_reason in (None, EndReason.FINISHED)

    def begin(self, head: bytes) -> None:
        """Let the handler go on; `head` is what is still to be sent before its first byte."""
        self.connection.set_head(head)
        self._settle()

    def abandon(self, reason: EndReason) -> None:
        """End the stream, unless it has ended: nobody answers the request with it any more."""
        self.connection.end(reason)
        self._settle()

    def _settle(self) -> None:
        """Say that the response has begun, or never will."""
        if self._changed is not None:
            self._changed.unpark_all()
            self._changed = None
