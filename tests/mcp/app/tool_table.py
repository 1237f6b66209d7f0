"""What tools are made of: each module of tools has a table of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus

Context = ServerRequestContext[Any, Any]
Result = types.CallToolResult | types.InputRequiredResult
Call = Callable[[Context, types.CallToolRequestParams], Awaitable[Result]]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as it is listed, and what it does."""

    description: types.Tool
    call: Call


#: What tools publish, and clients listen to.
changes = InMemorySubscriptionBus()


class ToolTable(dict[str, Tool]):
    """Tools by name."""

    def tool(self, schema: dict[str, Any] | None = None) -> Callable[[Call], Call]:
        """Add a tool that takes what the schema says, which is nothing by default."""

        def add(call: Call) -> Call:
            name = call.__name__
            listed = {
                "name": name,
                "description": call.__doc__,
                "inputSchema": schema or {"type": "object", "properties": {}},
            }
            self[name] = Tool(types.Tool.model_validate(listed), call)
            return call

        return add


def strings(*names: str) -> dict[str, Any]:
    """Return the schema of an object with some strings, all of them required."""
    return {
        "type": "object",
        "properties": {name: {"type": "string"} for name in names},
        "required": list(names),
    }


def text(*texts: str, is_error: bool = False) -> types.CallToolResult:
    """Return a result of texts."""
    return contents(*({"type": "text", "text": each} for each in texts), is_error=is_error)


def contents(*parts: dict[str, Any], is_error: bool = False) -> types.CallToolResult:
    """Return a result of parts as they are on the wire."""
    return types.CallToolResult.model_validate({"content": list(parts), "isError": is_error})
