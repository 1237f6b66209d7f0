"""Tools whose calls return at once, report on the way, or ask the client while they run."""

from __future__ import annotations

import json
from typing import Any

import anyio
import mcp_types as types
from mcp.server.subscriptions import PromptsListChanged, ToolsListChanged
from samples import IMAGE, SOUND
from tool_table import Context, ToolTable, changes, contents, strings, text

TOOLS = ToolTable()

Params = types.CallToolRequestParams

_PAUSE = 0.05  # seconds, which the suite suggests
_UNTIL_RECONNECT = 0.2


@TOOLS.tool()
async def test_simple_text(context: Context, params: Params) -> types.CallToolResult:
    """Return a text."""
    return text("This is a simple text response for testing.")


@TOOLS.tool()
async def test_image_content(context: Context, params: Params) -> types.CallToolResult:
    """Return an image."""
    return contents({"type": "image", "data": IMAGE, "mimeType": "image/png"})


@TOOLS.tool()
async def test_audio_content(context: Context, params: Params) -> types.CallToolResult:
    """Return a sound."""
    return contents({"type": "audio", "data": SOUND, "mimeType": "audio/wav"})


@TOOLS.tool()
async def test_embedded_resource(context: Context, params: Params) -> types.CallToolResult:
    """Return a resource."""
    resource = {"uri": "test://embedded-resource", "mimeType": "text/plain", "text": "An embedded resource."}
    return contents({"type": "resource", "resource": resource})


@TOOLS.tool()
async def test_multiple_content_types(context: Context, params: Params) -> types.CallToolResult:
    """Return a text, an image and a resource."""
    resource = {
        "uri": "test://mixed-content-resource",
        "mimeType": "application/json",
        "text": json.dumps({"test": "data", "value": 123}),
    }
    return contents(
        {"type": "text", "text": "Multiple content types test:"},
        {"type": "image", "data": IMAGE, "mimeType": "image/png"},
        {"type": "resource", "resource": resource},
    )


@TOOLS.tool()
async def test_error_handling(context: Context, params: Params) -> types.CallToolResult:
    """Fail."""
    return text("This tool intentionally returns an error for testing", is_error=True)


@TOOLS.tool(strings("text"))
async def length(context: Context, params: Params) -> types.CallToolResult:
    """Return how long a text is."""
    return text(str(len((params.arguments or {})["text"])))


@TOOLS.tool(
    schema={
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    }
)
async def json_schema_2020_12_tool(context: Context, params: Params) -> types.CallToolResult:
    """Return the arguments, whose schema has much of JSON Schema."""
    return text(json.dumps(params.arguments))


_IN_HEADER: dict[str, Any] = {
    "type": "object",
    "properties": {"value": {"type": "string", "x-mcp-header": "Value"}},
    "required": ["value"],
}


@TOOLS.tool(_IN_HEADER)
async def argument_in_header(context: Context, params: Params) -> types.CallToolResult:
    """Return an argument that the request also has in a header field."""
    return text((params.arguments or {})["value"])


# What is sent while the call runs.


@TOOLS.tool()
async def test_tool_with_logging(context: Context, params: Params) -> types.CallToolResult:
    """Log thrice."""
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await context.session.send_log_message("info", line, related_request_id=context.request_id)
        await anyio.sleep(_PAUSE)
    return text("Logged.")


@TOOLS.tool()
async def test_logging_tool(context: Context, params: Params) -> types.CallToolResult:
    """Log once, which only clients that ask for it receive."""
    await context.session.send_log_message("info", "A line", related_request_id=context.request_id)
    return text("Logged.")


@TOOLS.tool()
async def test_tool_with_progress(context: Context, params: Params) -> types.CallToolResult:
    """Report progress thrice."""
    for progress in (0, 50, 100):
        await context.session.report_progress(progress, 100)
        await anyio.sleep(_PAUSE)
    return text("Done.")


@TOOLS.tool()
async def test_reconnection(context: Context, params: Params) -> types.CallToolResult:
    """Close the call's stream: the client reconnects for the result."""
    await anyio.sleep(_PAUSE)  # the stream's first event comes from another task
    if context.close_sse_stream is not None:
        await context.close_sse_stream()
    await anyio.sleep(_UNTIL_RECONNECT)
    return text("Reconnection test completed")


@TOOLS.tool()
async def test_trigger_tool_change(context: Context, params: Params) -> types.CallToolResult:
    """Notify clients that listen that the tools have changed."""
    await changes.publish(ToolsListChanged())
    return text("Published.")


@TOOLS.tool()
async def test_trigger_prompt_change(context: Context, params: Params) -> types.CallToolResult:
    """Notify clients that listen that the prompts have changed."""
    await changes.publish(PromptsListChanged())
    return text("Published.")


# What asks the client, by a request of the server's on the call's stream.


@TOOLS.tool(strings("prompt"))
async def test_sampling(context: Context, params: Params) -> types.CallToolResult:
    """Have the client's model answer."""
    prompt = types.TextContent(type="text", text=(params.arguments or {})["prompt"])
    answer = await context.session.create_message(
        [types.SamplingMessage(role="user", content=prompt)],
        max_tokens=100,
        related_request_id=context.request_id,
    )
    return text(f"LLM response: {getattr(answer.content, 'text', '')}")


async def _ask_user(context: Context, message: str, properties: dict[str, Any]) -> types.CallToolResult:
    schema = {"type": "object", "properties": properties, "required": []}
    answer = await context.session.elicit_form(message, schema, context.request_id)
    return text(f"action={answer.action}, content={json.dumps(answer.content)}")


@TOOLS.tool(strings("message"))
async def test_elicitation(context: Context, params: Params) -> types.CallToolResult:
    """Ask the user for two texts."""
    fields = {"username": {"type": "string"}, "email": {"type": "string"}}
    return await _ask_user(context, (params.arguments or {})["message"], fields)


@TOOLS.tool()
async def test_elicitation_sep1034_defaults(context: Context, params: Params) -> types.CallToolResult:
    """Ask the user for values that have defaults."""
    fields = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    return await _ask_user(context, "Who are you?", fields)


@TOOLS.tool()
async def test_elicitation_sep1330_enums(context: Context, params: Params) -> types.CallToolResult:
    """Ask the user to choose, in each form of a choice."""
    values = ["option1", "option2", "option3"]
    titled = [{"const": value, "title": value.title()} for value in values]
    fields = {
        "untitledSingle": {"type": "string", "enum": values},
        "titledSingle": {"type": "string", "oneOf": titled},
        "legacyEnum": {"type": "string", "enum": values, "enumNames": [value.title() for value in values]},
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": values}},
        "titledMulti": {"type": "array", "items": {"anyOf": titled}},
    }
    return await _ask_user(context, "Which one?", fields)
