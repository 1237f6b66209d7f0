"""A process that has imported the program, and runs it in forks of itself: `forks` starts it and asks it.

It is run by its path, not as a module of a package, so that a fork imports what the program would.
Each fork becomes what `python -m MODULE ARGUMENTS` is: its arguments, folder, environment and standard
streams, and its end, with what the interpreter does then.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import socket
import sys
from importlib import import_module
from typing import Any

#: What the program imports, some of it when a command begins.
MODULES = (
    *(f"trio_sse.cli.{name}" for name in ("demo", "doctor", "load", "serve", "tail")),
    "trio_sse._workers.serve_workers",
    "trio_sse.sqlite",
    "httpx",
    "logging.config",
)

LONGEST_REQUEST = 1 << 20
STANDARD_STREAMS = 3


def serve(connection: socket.socket) -> dict[str, Any] | None:
    """Answer requests, until nobody is there to ask; in a fork, return what it is to run.

    If the tests were killed, forks may be left then: they are killed, too.
    """
    forks: set[int] = set()
    while True:
        message, streams, _, _ = socket.recv_fds(connection, LONGEST_REQUEST, STANDARD_STREAMS)
        if not message:
            for fork in forks:
                os.kill(fork, signal.SIGKILL)
            return None
        request: dict[str, Any] = json.loads(message)
        if "status_of" in request:
            _, status = os.waitpid(request["status_of"], 0)
            forks.remove(request["status_of"])
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if not answer:
                connection.close()
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                    os.close(stream)
                return request
            forks.add(answer)
            for stream in streams:
                os.close(stream)
        connection.sendall(json.dumps(answer).encode())


def become(module: str, arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Run a module as `python -m` does."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    sys.argv[1:] = arguments
    sys.orig_argv[1:] = ["-m", module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main() -> None:
    connection = socket.socket(fileno=int(sys.argv[1]))
    sys.path[0] = os.getcwd()
    for name in MODULES:
        import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page of these modules
    request = serve(connection)
    if request is not None:
        become(**request)


if __name__ == "__main__":
    main()
