"""An MCP server that has all that the conformance suite asks for, as an app for any ASGI server.

It is written with the SDK's public names, and runs in an environment of its own, which `make mcp` sets up:
`trio-sse serve everything:app --app-dir tests/mcp/app`. What waits does so by AnyIO, so that it runs on Trio
and on asyncio.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import asking_tools
import mcp_types as types
import tools
from asking_tools import ask, content_of
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from samples import IMAGE
from tool_table import changes

Context = ServerRequestContext[Any, Any]

_NAME = "everything"

_TOOLS = {**tools.TOOLS, **asking_tools.TOOLS}


async def _list_tools(context: Context, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
    return types.ListToolsResult(tools=[tool.description for tool in _TOOLS.values()])


async def _call_tool(
    context: Context, params: types.CallToolRequestParams
) -> types.CallToolResult | types.InputRequiredResult:
    if params.name not in _TOOLS:
        raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name!r}")
    return await _TOOLS[params.name].call(context, params)


# Resources

_RESOURCES = {
    "test://static-text": ("text/plain", {"text": "This is the content of the static text resource."}),
    "test://static-binary": ("image/png", {"blob": IMAGE}),
    "test://watched-resource": ("text/plain", {"text": "This resource can be subscribed to."}),
}
_TEMPLATE = "test://template/{id}/data"


async def _list_resources(
    context: Context, params: types.PaginatedRequestParams | None
) -> types.ListResourcesResult:
    listed = [
        types.Resource(uri=uri, name=uri.removeprefix("test://"), description="A sample", mime_type=mime_type)
        for uri, (mime_type, _) in _RESOURCES.items()
    ]
    return types.ListResourcesResult(resources=listed)


async def _list_templates(
    context: Context, params: types.PaginatedRequestParams | None
) -> types.ListResourceTemplatesResult:
    template = types.ResourceTemplate(uri_template=_TEMPLATE, name="template", description="Data by id")
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def _read_resource(
    context: Context, params: types.ReadResourceRequestParams
) -> types.ReadResourceResult:
    uri = str(params.uri)
    if uri in _RESOURCES:
        mime_type, content = _RESOURCES[uri]
    elif uri.startswith("test://template/") and uri.endswith("/data"):
        sought = uri.removeprefix("test://template/").removesuffix("/data")
        mime_type, content = "application/json", {"text": json.dumps({"id": sought, "templateTest": True})}
    else:
        raise MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri})
    read = {"contents": [{"uri": uri, "mimeType": mime_type, **content}]}
    return types.ReadResourceResult.model_validate(read)


async def _subscribe(context: Context, params: types.SubscribeRequestParams) -> types.EmptyResult:
    return types.EmptyResult()


async def _unsubscribe(context: Context, params: types.UnsubscribeRequestParams) -> types.EmptyResult:
    return types.EmptyResult()


# Prompts

_PROMPTS: dict[str, tuple[str, ...]] = {
    "test_simple_prompt": (),
    "test_prompt_with_arguments": ("arg1", "arg2"),
    "test_prompt_with_embedded_resource": ("resourceUri",),
    "test_prompt_with_image": (),
    "test_input_required_result_prompt": (),
}


async def _list_prompts(
    context: Context, params: types.PaginatedRequestParams | None
) -> types.ListPromptsResult:
    listed = [
        types.Prompt(
            name=name,
            description="A sample",
            arguments=[types.PromptArgument(name=argument, required=True) for argument in arguments],
        )
        for name, arguments in _PROMPTS.items()
    ]
    return types.ListPromptsResult(prompts=listed)


async def _get_prompt(
    context: Context, params: types.GetPromptRequestParams
) -> types.GetPromptResult | types.InputRequiredResult:
    arguments = params.arguments or {}
    contents: list[dict[str, Any]]
    match params.name:
        case "test_simple_prompt":
            contents = [_text("This is a simple prompt for testing.")]
        case "test_prompt_with_arguments":
            contents = [_text(f"arg1={arguments.get('arg1')!r}, arg2={arguments.get('arg2')!r}")]
        case "test_prompt_with_embedded_resource":
            resource = {"uri": arguments.get("resourceUri"), "mimeType": "text/plain", "text": "Embedded."}
            contents = [{"type": "resource", "resource": resource}, _text("Please process the resource.")]
        case "test_prompt_with_image":
            image = {"type": "image", "data": IMAGE, "mimeType": "image/png"}
            contents = [image, _text("Please analyze the image above.")]
        case "test_input_required_result_prompt":
            given = content_of(params, "user_context")
            if "context" not in given:
                return ask({"user_context": ("What context should the prompt use?", "context", "string")})
            contents = [_text(f"The context is {given['context']}.")]
        case name:
            raise MCPError(types.INVALID_PARAMS, f"there is no prompt {name!r}")
    messages = [{"role": "user", "content": content} for content in contents]
    return types.GetPromptResult.model_validate({"messages": messages})


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


# The rest


async def _complete(context: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    return types.CompleteResult(completion=types.Completion(values=[], total=0, has_more=False))


async def _set_level(context: Context, params: types.SetLevelRequestParams) -> types.EmptyResult:
    return types.EmptyResult()


class _Events(EventStore):
    """All events of all streams, so that a client can go on where its stream was closed."""

    def __init__(self) -> None:
        self._events: list[tuple[str, types.JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: types.JSONRPCMessage | None) -> str:
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        last = int(last_event_id)
        stream_id, _ = self._events[last - 1]
        for number, (of, message) in enumerate(self._events[last:], last + 1):
            if of == stream_id and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream_id


with warnings.catch_warnings():
    warnings.simplefilter("ignore", MCPDeprecationWarning)  # the suite asks for the log level, too
    _server: Server[Any] = Server(
        _NAME,
        version="1.0.0",
        cache_hints={
            method: CacheHint(ttl_ms=1000)
            for method in (
                "tools/list",
                "prompts/list",
                "resources/list",
                "resources/templates/list",
                "resources/read",
            )
        },
        on_list_tools=_list_tools,
        on_call_tool=_call_tool,
        on_list_resources=_list_resources,
        on_list_resource_templates=_list_templates,
        on_read_resource=_read_resource,
        on_subscribe_resource=_subscribe,
        on_unsubscribe_resource=_unsubscribe,
        on_subscriptions_listen=ListenHandler(changes),
        on_list_prompts=_list_prompts,
        on_get_prompt=_get_prompt,
        on_completion=_complete,
        on_set_logging_level=_set_level,
    )
# It signs the state that clients send back with their answers, and refuses what was changed.
_server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=_NAME))

app = _server.streamable_http_app(event_store=_Events(), retry_interval=100)
