"""Log a user out on every node, and cut streams whose token expires: `python -m examples.revocation`.

Two servers share a log, in an SQLite file. Each user has a stream on either. Try:

    trio-sse tail "http://127.0.0.1:8000/live?token=ada-1"      in one terminal
    trio-sse tail "http://127.0.0.1:8001/live?token=ada-1"      in another one
    curl http://127.0.0.1:8000/who                              on which node is who
    curl -X POST http://127.0.0.1:8000/logout/ada               ends both; neither gets in again
    trio-sse tail "http://127.0.0.1:8000/live?token=ada-2"      a new login
"""

import os
import tempfile
import time
from pathlib import Path

import trio

from trio_sse import Connection, HTTPException, Hub, Request, Response, Server
from trio_sse.sqlite import SQLiteLog

PORT = int(os.environ.get("PORT", "8000"))
TOKEN_SECONDS = float(os.environ.get("TOKEN_SECONDS", "60"))


class Tokens:
    """The tokens of users, such as `ada-1`. All nodes share them: in a real program, in a database."""

    def __init__(self) -> None:
        self._revoked: set[str] = set()
        self._seen: set[str] = set()

    def user_of(self, token: str) -> str:
        """Return whose a token is."""
        return token.partition("-")[0]

    def is_valid(self, token: str) -> bool:
        """Whether a token was not revoked."""
        self._seen.add(token)
        return bool(token) and token not in self._revoked

    def revoke(self, user: str) -> None:
        """Revoke all tokens of a user that were used."""
        self._revoked |= {token for token in self._seen if self.user_of(token) == user}


def make_node(log: Path, tokens: Tokens) -> Server:
    server = Server(hub=Hub(log=SQLiteLog(log)))

    @server.on_connect
    async def check(connection: Connection) -> None:
        token = connection.request.query.get("token", "")
        if not tokens.is_valid(token):
            raise HTTPException(401)
        connection.identity = tokens.user_of(token)
        connection.expires_at = time.time() + TOKEN_SECONDS  # a real token says it

    @server.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("ticks")

    @server.endpoint("/who")
    async def who(request: Request) -> Response:
        lines = [f"{info.identity}, {info.age:.0f} s, from {info.peer}" for info in server.connections()]
        return Response("".join(f"{line}\n" for line in lines))

    @server.endpoint("/logout/{user}", methods=["POST"])
    async def logout(request: Request, user: str) -> Response:
        tokens.revoke(user)  # first, so that nobody gets in again
        ended = await server.hub.revoke(user)
        return Response(f"{ended} streams ended here, and those of all other nodes\n")

    return server


async def main() -> None:
    tokens = Tokens()
    with tempfile.TemporaryDirectory() as folder:
        nodes = [make_node(Path(folder) / "log.db", tokens) for _ in range(2)]
        async with trio.open_nursery() as nursery:
            for offset, node in enumerate(nodes):
                addresses = await nursery.start(node.serve, "127.0.0.1", PORT and PORT + offset)
                print(f"http://127.0.0.1:{addresses[0][1]}/live?token=ada-1", flush=True)
            await nodes[0].hub.run_ticker("ticks")


if __name__ == "__main__":
    trio.run(main)
