"""What both of OpenAI's protocols have alike: errors, usage and calls of tools."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from http import HTTPStatus
from typing import Any, Concatenate, ParamSpec, TypeVar, final

from .._http.exceptions import HTTPException
from .._http.response import Response
from .._runs.errors import RunGone
from .._runs.items import RunEmitted
from .._runs.routes import OwnerOf, owned_view, owner_of
from .._runs.runs import Runs
from .._runs.view import RunView
from .._stream.connection import Connection
from ._protocol import RunFunction, RunStarter, ToolCall, json_response

P = ParamSpec("P")
S = TypeVar("S")

Handler = Callable[Concatenate[S, Connection, P], Awaitable[Response | None]]


@final
class RequestedRuns:
    """Starts runs that OpenAI's clients ask for, and finds them by the ids that these have received.

    Args:
        name: that of the adapter, as for `RunStarter`.
        owner: returns who has sent a request, by default `Connection.identity`.
        prefix: what ids begin with.
    """

    def __init__(
        self, runs: Runs, function: RunFunction, name: str, owner: OwnerOf | None, prefix: str
    ) -> None:
        self._runs = runs
        self._starter = RunStarter(runs, function, name)
        self._owner = owner
        self._prefix = prefix

    async def start(
        self, connection: Connection, body: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> RunView:
        """Start a run; raise what `RunStarter.start` raises.

        With an owner, requests of one `Idempotency-Key` share a run.
        """
        owner = owner_of(connection, self._owner)
        key = None if owner is None else connection.request.headers.get("idempotency-key")
        known = {"model": str(body.get("model", "")), **facts}
        return await self._starter.start(body, known, owner=owner, key=key)

    async def find(self, connection: Connection, id: str) -> RunView:
        """Return a run of who has sent the request; raises `RunGone`."""
        return await owned_view(self._runs, id.removeprefix(self._prefix), owner_of(connection, self._owner))


def with_openai_errors(handler: Handler[S, P]) -> Handler[S, P]:
    """Return a handler whose refusals have the body that OpenAI's clients read."""

    @wraps(handler)
    async def answer(
        adapter: S, connection: Connection, /, *args: P.args, **options: P.kwargs
    ) -> Response | None:
        try:
            return await handler(adapter, connection, *args, **options)
        except RunGone:
            return error_response(404, "there is no such run, or no longer")
        except HTTPException as error:
            if error.response is not None:
                raise
            return error_response(error.status, error.detail, error.headers)

    return answer


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a refusal as JSON."""
    kind = "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    return json_response({"error": error_object(message, kind)}, status, headers)


def error_object(message: str, kind: str, code: str | None = None) -> dict[str, object]:
    """Return an error as an object."""
    return {"message": message, "type": kind, "param": None, "code": code}


def token_counts(result: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return how many tokens a run's result says were read and written; `None` if it does not."""
    usage = result.get("usage")
    if not isinstance(usage, Mapping):
        return None
    counts = (usage.get("input_tokens", 0), usage.get("output_tokens", 0))
    return counts if all(isinstance(count, int) for count in counts) else None


def client_tool_call(item: RunEmitted) -> ToolCall | None:
    """Return the call that the client is to make; `None` for other events."""
    if item.event != "tool_call":
        return None
    call = ToolCall.of(item)
    return None if call.is_executed else call
