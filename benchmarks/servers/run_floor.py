"""The floor of runs: a loop that writes the same tokens to as many sockets, and does nothing else.

It has no tasks, parses nothing and keeps nothing. Commands on stdin: `serve RUNS VIEWERS` accepts that many
viewers; `go SECONDS INTERVAL` writes to the viewers of each run once per INTERVAL seconds.
"""

from __future__ import annotations

import math
import socket
import sys
import time

from benchmarks.harness.control import answer
from benchmarks.servers.runs import TOKENS_PER_SECOND

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def main() -> None:
    """Run the commands."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    answer("listening", port=listener.getsockname()[1])
    viewers: list[list[socket.socket]] = []
    for line in sys.stdin:
        match line.split():
            case ["serve", runs, count]:
                viewers = [[] for _ in range(int(runs))]
                for _ in range(int(runs) * int(count)):
                    client, _ = listener.accept()
                    number = int(client.recv(4096).split()[1].rpartition(b"/")[2])
                    client.sendall(_HEAD)
                    viewers[number % len(viewers)].append(client)
                answer("serve")
            case ["go", seconds, interval]:
                began_at = time.process_time()
                _write(viewers, float(seconds), float(interval))
                answer("go", cpu_seconds=time.process_time() - began_at)


def _write(viewers: list[list[socket.socket]], seconds: float, interval: float) -> None:
    """Write to the runs one after the other, what each has had since it was written to last."""
    began_at = now = time.monotonic()
    count, tokens = len(viewers), int(seconds * TOKENS_PER_SECOND)
    written = [0] * count
    for turn in range(count * (math.ceil(seconds / interval) + 2)):
        number = turn % count
        due = began_at + turn * interval / count
        if now < due:
            time.sleep(max(due - time.monotonic(), 0.001))
            now = time.monotonic()
        begin = began_at + number / count / TOKENS_PER_SECOND  # of the run's tokens
        made = min(tokens, int((now - begin) * TOKENS_PER_SECOND) + 1)
        if made > written[number]:
            times = [f"{begin + token / TOKENS_PER_SECOND:.5f} " for token in range(written[number], made)]
            written[number] = made
            data = b'id: abcdefgh.0-0-%d\nevent: append\ndata: {"text":"%b"}\n\n' % (
                made * 12,
                "".join(times).encode(),
            )
            chunk = b"%x\r\n%b\r\n" % (len(data), data)
            for viewer in viewers[number]:
                viewer.send(chunk)
    for group in viewers:
        for viewer in group:
            viewer.send(b"0\r\n\r\n")


if __name__ == "__main__":
    main()
