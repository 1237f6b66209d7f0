"""Find a clean-up that is sometimes forgotten, by the testing kit: `python -m examples.forgetful_room`.

A room notes who is in it. The handler removes a member in its `finally` block, but begins that block one
line too late: a client that disconnects while "welcome" is being sent stays in the room for ever. A test that
opens the stream and closes it does not notice. `interrupt_everywhere` does, and says where it happens.
"""

import trio
import trio.testing

from trio_sse import Connection, Server
from trio_sse.testing import Client, interrupt_everywhere


class Room:
    def __init__(self, *, is_forgetful: bool) -> None:
        self.members: set[int] = set()
        self.server = Server()
        self.server.route("/room")(self.forgetful if is_forgetful else self.careful)

    async def forgetful(self, connection: Connection) -> None:
        self.members.add(connection.id)
        await connection.send("welcome")
        try:
            await connection.subscribe("room")
        finally:
            self.members.discard(connection.id)

    async def careful(self, connection: Connection) -> None:
        self.members.add(connection.id)
        try:
            await connection.send("welcome")
            await connection.subscribe("room")
        finally:
            self.members.discard(connection.id)


async def visit(client: Client) -> None:
    async with client.stream("/room") as stream:
        await stream.event()
        await client.server.hub.publish("room", "hello")
        assert (await stream.event()).data == "hello"


async def try_to_break(*, is_forgetful: bool) -> None:
    room: Room

    def make_server() -> Server:
        nonlocal room
        room = Room(is_forgetful=is_forgetful)
        return room.server

    def check(_: Server) -> None:
        assert not room.members, f"still in the room: {room.members}"

    tried = await interrupt_everywhere(make_server, visit, check=check)
    for interruption, steps in tried.items():
        print(f"  {interruption.value} at each of {steps} steps: nothing is left")


async def main() -> None:
    print("The careful room:")
    await try_to_break(is_forgetful=False)
    print("The forgetful room:")
    try:
        await try_to_break(is_forgetful=True)
    except AssertionError as error:
        print("  " + "\n  ".join([str(error), *error.__notes__]), flush=True)


if __name__ == "__main__":
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
