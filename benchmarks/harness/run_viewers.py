"""Viewers of runs, in a process of their own: they record how old each token is when it arrives.

Commands on stdin: `open N` opens N streams of /runs/0 to /runs/N - 1; `report` waits until all have ended,
and answers with the ages of the tokens.
"""

from __future__ import annotations

import re
import select
import socket
import sys
import time
from array import array

from benchmarks.harness.control import answer

_TOKEN = re.compile(rb"(\d+\.\d{5}) ")


def main(port: int) -> None:
    """Run the commands."""
    poll = select.epoll()
    clients: dict[int, socket.socket] = {}
    for line in sys.stdin:
        match line.split():
            case ["open", text]:
                for number in range(int(text)):
                    client = socket.create_connection(("127.0.0.1", port))
                    client.sendall(b"GET /runs/%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
                    client.setblocking(False)
                    clients[client.fileno()] = client
                    poll.register(client, select.EPOLLIN)
                answer("open", connected=len(clients))
            case ["report"]:
                _report(poll, clients)


def _report(poll: select.epoll, clients: dict[int, socket.socket]) -> None:
    ages = array("d")
    writes = ended = 0
    find, now = _TOKEN.findall, time.monotonic
    deadline = now() + 100
    while ended < len(clients) and now() < deadline:
        for number, _ in poll.poll(1):
            data = clients[number].recv(65536)
            arrived_at = now()
            writes += 1
            for token in find(data):
                ages.append(arrived_at - float(token))
            if not data or data.endswith(b"0\r\n\r\n"):
                ended += 1
                poll.unregister(number)
    for client in clients.values():
        client.close()
    found = sorted(ages)
    at = [found[int(len(found) * share)] * 1000 for share in (0.5, 0.99)] if found else [0.0, 0.0]
    cpu = time.process_time()
    answer("report", tokens=len(found), ended=ended, writes=writes, median=at[0], p99=at[1], cpu=cpu)


if __name__ == "__main__":
    main(int(sys.argv[1]))
