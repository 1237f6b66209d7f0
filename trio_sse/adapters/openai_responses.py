"""OpenAI's Responses API on runs: streams that resume after a number, background, and cancel.

::

    responses = Responses(runs, answer)  # answer(run, body), as in `openai_chat`
    server.route("/v1/responses", methods=["POST"])(responses.create)
    server.route("/v1/responses/{id}")(responses.retrieve)
    server.route("/v1/responses/{id}/cancel", methods=["POST"])(responses.cancel)

Events are numbered as OpenAI's are, 0, 1, 2 and so on. A number follows from what the run has put out, not
from when it was read. So a client that resumes with `starting_after` receives each event once, from any node.
"""

from __future__ import annotations

from typing import final

from .._http.response import Response
from .._runs.routes import OwnerOf
from .._runs.runs import Runs
from .._runs.view import RunView
from .._stream.connection import Connection
from .._stream.whole_body import needs_body
from ._numbers import MOST_DIGITS
from ._openai import RequestedRuns, error_response, with_openai_errors
from ._protocol import (
    RunFunction,
    answer_whole,
    body_of,
    json_response,
    run_through,
    show,
    translate_now,
)
from ._response import PREFIX, RunAsResponse

__all__ = ["Responses"]


@final
class Responses:
    """Handlers of the Responses API.

    The function's main text becomes messages. `run.emit("...", event="reasoning")` adds to a reasoning item,
    and `run.emit({"id": ..., "name": ..., "arguments": ...}, event="tool_call")` asks the client to call a
    function; with `"executed": True` it is not shown. The result may have `usage`, with `input_tokens` and
    `output_tokens`.

    Args:
        runs: what starts and keeps the runs.
        function: a coroutine function of the run and the request's body.
        owner: returns who has sent a request, by default `Connection.identity`. Others can
            neither read nor cancel the run. With an owner, requests of one `Idempotency-Key` share a run.
    """

    def __init__(self, runs: Runs, function: RunFunction, *, owner: OwnerOf | None = None) -> None:
        self._runs = RequestedRuns(runs, function, "Responses", owner, PREFIX)

    @needs_body
    @with_openai_errors
    async def create(self, connection: Connection) -> Response | None:
        """Answer `POST /v1/responses`: as a stream, at once if it has `"background": true`, or whole."""
        body = body_of(connection.request)
        if "input" not in body:
            return error_response(400, "input is missing")
        is_background = body.get("background") is True
        previous = body.get("previous_response_id")
        facts = {
            "background": is_background,
            "metadata": body.get("metadata"),
            "previous_response_id": previous if isinstance(previous, str) else None,
        }
        view = await self._runs.start(connection, body, facts)
        if body.get("stream") is True:
            await show(view, connection, RunAsResponse(view.id))
            return None
        answer_whole(connection)
        return await (_so_far(view) if is_background else _whole(view))

    @with_openai_errors
    async def retrieve(self, connection: Connection, id: str) -> Response | None:
        """Answer `GET /v1/responses/{id}`, with `?stream=true&starting_after=N` as a stream."""
        view = await self._runs.find(connection, id)
        query = connection.request.query
        if query.get("stream") != "true":
            return await _so_far(view)
        after = query.get("starting_after")
        if after is not None and not (after.isascii() and after.isdigit() and len(after) <= MOST_DIGITS):
            return error_response(400, "starting_after must be a sequence number")
        await show(view, connection, RunAsResponse(view.id), after=None if after is None else int(after))
        return None

    @with_openai_errors
    async def cancel(self, connection: Connection, id: str) -> Response | None:
        """Answer `POST /v1/responses/{id}/cancel`: cancel the run, and return the response."""
        view = await self._runs.find(connection, id)
        await view.cancel()
        answer_whole(connection)
        return await _whole(view)


async def _whole(view: RunView) -> Response:
    response = RunAsResponse(view.id)
    await run_through(view, response)
    return json_response(response.snapshot())


async def _so_far(view: RunView) -> Response:
    response = RunAsResponse(view.id)
    await translate_now(view, response)
    return json_response(response.snapshot())
