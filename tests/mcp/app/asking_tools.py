"""Tools that return questions instead of a result: the client calls again, with the answers."""

from __future__ import annotations

from typing import Any

import mcp_types as types
from mcp.shared.exceptions import MCPError
from tool_table import Context, Result, ToolTable, text

TOOLS = ToolTable()

Params = types.CallToolRequestParams

#: A question to the user: what it says, and the name and type of the one field of the answer.
Question = tuple[str, str, str]


def ask(
    questions: dict[str, Question], *others: tuple[str, dict[str, Any]], state: str | None = None
) -> types.InputRequiredResult:
    """Return questions to the user, and other requests to the client, by their names."""
    requests = dict(others)
    for name, (message, field, kind) in questions.items():
        schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
        params = {"message": message, "requestedSchema": schema}
        requests[name] = {"method": "elicitation/create", "params": params}
    result: dict[str, Any] = {"resultType": "input_required", "inputRequests": requests}
    if state is not None:
        result["requestState"] = state
    return types.InputRequiredResult.model_validate(result)


def content_of(params: Params | types.GetPromptRequestParams, name: str) -> dict[str, Any]:
    """Return what the user has answered to a question, or nothing."""
    answer = (params.input_responses or {}).get(name)
    return (answer.content or {}) if isinstance(answer, types.ElicitResult) else {}


def _sample(prompt: str) -> dict[str, Any]:
    message = {"role": "user", "content": {"type": "text", "text": prompt}}
    return {"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": 100}}


_ROOTS: dict[str, Any] = {"method": "roots/list", "params": {}}
_CONFIRM: dict[str, Question] = {"confirm": ("Please confirm", "ok", "boolean")}


@TOOLS.tool()
async def test_input_required_result_elicitation(context: Context, params: Params) -> Result:
    """Ask for a name."""
    given = content_of(params, "user_name")
    if "name" in given:
        return text(f"Hello, {given['name']}!")
    return ask({"user_name": ("What is your name?", "name", "string")})


@TOOLS.tool()
async def test_streaming_elicitation(context: Context, params: Params) -> Result:
    """Ask for a name, within the call's stream."""
    return await test_input_required_result_elicitation(context, params)


@TOOLS.tool()
async def test_input_required_result_sampling(context: Context, params: Params) -> Result:
    """Ask the client's model."""
    if "capital_question" in (params.input_responses or {}):
        return text("The model has answered.")
    return ask({}, ("capital_question", _sample("What is the capital of France?")))


@TOOLS.tool()
async def test_input_required_result_list_roots(context: Context, params: Params) -> Result:
    """Ask for the client's roots."""
    if "client_roots" in (params.input_responses or {}):
        return text("The roots have arrived.")
    return ask({}, ("client_roots", _ROOTS))


@TOOLS.tool()
async def test_input_required_result_request_state(context: Context, params: Params) -> Result:
    """Ask for a confirmation, whose state the client must return unchanged."""
    if params.request_state == "confirming" and content_of(params, "confirm"):
        return text("state-ok")
    return ask(_CONFIRM, state="confirming")


@TOOLS.tool()
async def test_input_required_result_tampered_state(context: Context, params: Params) -> Result:
    """Ask for a confirmation: a state that was changed on the way is refused."""
    return await test_input_required_result_request_state(context, params)


@TOOLS.tool()
async def test_input_required_result_multiple_inputs(context: Context, params: Params) -> Result:
    """Ask for three things at once."""
    if {"user_name", "greeting", "client_roots"} <= (params.input_responses or {}).keys():
        return text("All has arrived.")
    name: dict[str, Question] = {"user_name": ("What is your name?", "name", "string")}
    others = (("greeting", _sample("Generate a greeting")), ("client_roots", _ROOTS))
    return ask(name, *others, state="asked")


@TOOLS.tool()
async def test_input_required_result_multi_round(context: Context, params: Params) -> Result:
    """Ask twice, one question after the other."""
    if params.request_state == "second" and content_of(params, "step2"):
        return text("Both have arrived.")
    if params.request_state == "first" and content_of(params, "step1"):
        return ask({"step2": ("What is your favorite color?", "color", "string")}, state="second")
    return ask({"step1": ("What is your name?", "name", "string")}, state="first")


@TOOLS.tool()
async def test_input_required_result_capabilities(context: Context, params: Params) -> Result:
    """Ask for what the client can answer."""
    capabilities = context.session.client_capabilities
    questions: dict[str, Question] = {}
    others: list[tuple[str, dict[str, Any]]] = []
    if capabilities and capabilities.elicitation is not None:
        questions["name"] = ("What is your name?", "name", "string")
    if capabilities and capabilities.sampling is not None:
        others.append(("greeting", _sample("Generate a greeting")))
    return ask(questions, *others, state="asked")


@TOOLS.tool()
async def test_missing_capability(context: Context, params: Params) -> Result:
    """Refuse clients without a model."""
    capabilities = context.session.client_capabilities
    if capabilities is None or capabilities.sampling is None:
        missing = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(types.MISSING_REQUIRED_CLIENT_CAPABILITY, "This needs sampling", missing)
    return text("The client has a model.")
