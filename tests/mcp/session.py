"""A session of MCP by its plain requests."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from ..support.waiting import SECONDS

_VERSION = "2025-11-25"


class Session:
    """A client's session with a server."""

    def __init__(self, url: str) -> None:
        """Open the session."""
        self._address = urlsplit(url)
        self._fields = {
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "MCP-Protocol-Version": _VERSION,
        }
        client = {"name": "plain", "version": "1"}
        parameters = {"protocolVersion": _VERSION, "capabilities": {}, "clientInfo": client}
        head, _ = self._post({"id": 0, "method": "initialize", "params": parameters})
        session = head.headers["Mcp-Session-Id"]
        assert session, f"{head.status}: no session"
        self._fields["Mcp-Session-Id"] = session
        self._post({"method": "notifications/initialized"})

    def call(self, tool: str, **arguments: str) -> tuple[int, str]:
        """Call a tool; return the status of the response, and the text of the result."""
        head, body = self._post(
            {"id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
        )
        events = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: {")]
        result = json.loads(events[-1])["result"] if events else {"content": [{"text": body}]}
        return head.status, result["content"][0]["text"]

    def listen(self) -> http.client.HTTPResponse:
        """Open the stream on which the server may send by itself."""
        connection = http.client.HTTPConnection(str(self._address.hostname), self._address.port, SECONDS)
        connection.request("GET", "/mcp", headers={**self._fields, "Accept": "text/event-stream"})
        return connection.getresponse()

    def _post(self, message: dict[str, Any]) -> tuple[http.client.HTTPResponse, str]:
        connection = http.client.HTTPConnection(str(self._address.hostname), self._address.port, SECONDS)
        try:
            body = json.dumps({"jsonrpc": "2.0", **message})
            connection.request("POST", "/mcp", body, self._fields)
            response = connection.getresponse()
            return response, response.read().decode()
        finally:
            connection.close()
