"""Viewers of runs, in a process of their own: they record how old each token is when it arrives.

Commands on stdin: `open N` opens N streams of /runs/0 to /runs/N - 1; `report` waits until all have ended,
and answers with the ages of the tokens.
"""

from __future__ import annotations

import re
import selectors
import socket
import sys
import time

from benchmarks.harness.control import answer

_TOKEN = re.compile(rb"(\d+\.\d{5}) ")


def main(port: int) -> None:
    """Run the commands."""
    selector = selectors.EpollSelector()
    ages: list[float] = []
    tokens = ended = opened = 0
    for line in sys.stdin:
        match line.split():
            case ["open", text]:
                opened = int(text)
                for number in range(opened):
                    client = socket.create_connection(("127.0.0.1", port))
                    client.sendall(b"GET /runs/%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
                    client.setblocking(False)
                    selector.register(client, selectors.EVENT_READ)
                answer("open", connected=opened)
            case ["report"]:
                deadline = time.monotonic() + 100
                while ended < opened and time.monotonic() < deadline:
                    for key, _ in selector.select(1):
                        client = key.fileobj  # type: ignore[assignment]
                        data = client.recv(65536)
                        now = time.monotonic()
                        found = _TOKEN.findall(data)
                        tokens += len(found)
                        ages += [now - float(token) for token in found]
                        if not data or data.endswith(b"0\r\n\r\n"):
                            ended += 1
                            selector.unregister(client)
                            client.close()
                ages.sort()
                at = [ages[int(len(ages) * share)] * 1000 for share in (0.5, 0.99)] if ages else [0.0, 0.0]
                answer("report", tokens=tokens, ended=ended, median=at[0], p99=at[1], cpu=time.process_time())


if __name__ == "__main__":
    main(int(sys.argv[1]))
