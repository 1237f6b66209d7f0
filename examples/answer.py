"""A stream over POST, as answers of language models are sent: `python examples/answer.py`.

The words here come from a text of its own. When the client goes, the handler is cancelled, and so would be
the request to a real model that it waits for.
"""

import os

import trio

from trio_sse import Connection, HTTPException, Server

ANSWER = (
    "Because a stream of events is only a response that does not end, every proxy, browser and command line"
    " that speaks HTTP can carry it, and because each event has an id, whoever was cut off can go on."
)

server = Server(max_body_size=4096)


@server.route("/answer", methods=["POST"])
async def answer(connection: Connection) -> None:
    question = connection.request.body.decode("utf-8", "replace").strip()
    if not question:
        raise HTTPException(400, "ask something")
    for token in ANSWER.split():
        await connection.send({"token": token}, event="token")
        await trio.sleep(0.05)
    await connection.send({"question": question}, event="done")


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", int(os.environ.get("PORT", "8000")))
        print(f"curl -N -d 'why?' http://127.0.0.1:{addresses[0][1]}/answer", flush=True)


if __name__ == "__main__":
    trio.run(main)
