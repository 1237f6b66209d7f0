"""Stream the answer to a POST request, as a language model does: `python -m examples.answer`.

The words come from a constant, in place of a model. When the client disconnects, the handler is cancelled. In
a real program that also cancels the request to the model.
"""

import os

import trio

from trio_sse import Connection, HTTPException, Server

ANSWER = (
    "Because an event stream is an HTTP response that does not end, every proxy, browser and command line"
    " tool that speaks HTTP can carry it. Each event has an id, so a client that disconnects can resume."
)

PORT = int(os.environ.get("PORT", "8000"))

server = Server(max_body_size=4096)


@server.route("/answer", methods=["POST"])
async def answer(connection: Connection) -> None:
    question = connection.request.body.decode("utf-8", "replace").strip()
    if not question:
        raise HTTPException(400, "the request body must be a question")
    for token in ANSWER.split():
        await connection.send({"token": token}, event="token")
        await trio.sleep(0.05)
    await connection.send({"question": question}, event="done")


async def main() -> None:
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(server.serve, "127.0.0.1", PORT)
        print(f"curl -N -d 'why?' http://127.0.0.1:{addresses[0][1]}/answer", flush=True)


if __name__ == "__main__":
    trio.run(main)
