"""nginx with nchan: starts nginx with one worker and publishes by HTTP; see `harness/control.py`.

CPU time and memory are those of nginx's processes. It has no time stamps and no handlers.
With the files of a certificate and a key as arguments, it offers HTTP/2 with TLS to subscribers.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DATA = "x" * 100

CONFIGURATION = """
load_module {module};
worker_processes 1;
worker_rlimit_nofile 20000;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 19500; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  nchan_max_reserved_memory 256M;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    {secured}
    location = /updates {{
      nchan_subscriber eventsource; nchan_channel_id live; nchan_subscriber_first_message newest;
    }}
    location = /publish {{
      nchan_publisher; nchan_channel_id live; nchan_message_buffer_length 100; keepalive_requests 1000000;
    }}
  }}
}}
"""

SECURED = """
    listen 127.0.0.1:{port} ssl http2 backlog=4096;
    ssl_certificate {certificate}; ssl_certificate_key {key};
"""


def main() -> None:
    module = next(Path("/usr/lib/nginx/modules").glob("ngx_nchan_module.so"))
    port, secured_port = free_port(), free_port()
    secured = ""
    if sys.argv[1:]:
        certificate, key = sys.argv[1:]
        secured = SECURED.format(port=secured_port, certificate=certificate, key=key)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        path = Path(folder, "nginx.conf")
        path.write_text(CONFIGURATION.format(module=module, folder=folder, port=port, secured=secured))
        nginx = subprocess.Popen(["nginx", "-p", folder, "-c", str(path)], stdin=subprocess.DEVNULL)
        try:
            run_commands(nginx.pid, port, secured_port if secured else port)
        finally:
            nginx.send_signal(signal.SIGTERM)
            nginx.wait(10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def run_commands(pid: int, port: int, subscribers_port: int) -> None:
    for _ in range(200):
        try:
            publisher = http.client.HTTPConnection("127.0.0.1", port)
            publisher.connect()
            break
        except OSError:
            time.sleep(0.02)
    publisher.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def publish() -> None:
        publisher.request("POST", "/publish", DATA)
        publisher.getresponse().read()

    answer("listening", port=subscribers_port)
    for line in sys.stdin:
        match line.split():
            case ["burst", count]:
                for _ in range(int(count)):
                    publish()
                answer("burst")
            case ["steady", count, milliseconds]:
                start = time.monotonic()
                for index in range(1, int(count) + 1):
                    publish()
                    time.sleep(max(0, start + index * int(milliseconds) / 1000 - time.monotonic()))
                answer("steady")
            case ["cpu"]:
                answer("cpu", **cpu([pid, *children(pid)]))
            case ["memory"]:
                answer("memory", pss_bytes=sum(pss(each) for each in (pid, *children(pid))))
            case ["quit"]:
                return
            case _:
                print(json.dumps({"reply": "refused", "error": f"no such command: {line}"}), flush=True)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu(pids: list[int]) -> dict[str, float]:
    ticks = os.sysconf("SC_CLK_TCK")
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return {
        "user_seconds": sum(int(field[11]) for field in fields) / ticks,
        "system_seconds": sum(int(field[12]) for field in fields) / ticks,
    }


def pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def answer(name: str, **values: float) -> None:
    print(json.dumps({"reply": name, **values}), flush=True)


if __name__ == "__main__":
    main()
