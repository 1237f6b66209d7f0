"""MCP on our server and on uvicorn, for `make mcp`: it needs pip, npm and Node, so no test imports it."""
