"""The configurations in examples/proxies: what real proxies say about clients, and clients cannot."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from trio_sse import Connection, Request, Response, Server

from ..support.certificates import Certificate
from ..support.leaks import MakeServer
from ..support.linking_apps import make_quart, make_starlette
from ..support.ports import free_port
from ..support.programs import ROOT, running
from ..support.requirements import find, needs
from ..support.waiting import SECONDS, until

pytestmark = pytest.mark.integration

CONFIGURATIONS = ROOT / "examples" / "proxies"

# Clients have another address than the proxies, which trust those that have theirs.
CLIENT, PROXY = "127.0.0.2", "127.0.0.1"

# What a client says, which must not count.
FORGED = {
    "X-Forwarded-For": "192.0.2.1",
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "81",
    "X-Forwarded-Prefix": "/evil",
    "Forwarded": "for=192.0.2.1;proto=http;host=evil.example",
}


def nginx(text: str, certificate: Certificate, folder: Path) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
    start, location = text.split("        location / {", 1)
    location, end = location.split("        }\n", 1)
    below = location.replace("http://streams;", "http://streams/;").replace('Prefix ""', "Prefix /app")
    tls = f"ssl_certificate {certificate.chain}; ssl_certificate_key {certificate.key};"
    start = start.replace("http {", f"http {{ access_log off; {paths}").replace("80;", f"80 ssl; {tls}", 1)
    return f"{start} location / {{{location}}} location /app/ {{{below}}}\n{end}"


def haproxy(text: str, certificate: Certificate, folder: Path) -> str:
    text = text.replace("bind :8080", f"bind :8080 ssl crt {certificate.both}")
    below = "http-request set-header X-Forwarded-Prefix /app if { path_beg /app/ }\n"
    below += "http-request replace-path /app(/.*) \\1 if { path_beg /app/ }\n"
    return text.replace("    default_backend", below + "    default_backend")


def caddy(text: str, certificate: Certificate, folder: Path) -> str:
    start, proxy = text.split("\treverse_proxy", 1)
    below = proxy.rsplit("}", 1)[0].replace("-X-Forwarded-Prefix", "X-Forwarded-Prefix /app")
    start = start.replace(":8080 {", f"https://:8080 {{\ntls {certificate.chain} {certificate.key}\n")
    options = "{\nadmin off\nauto_https disable_redirects\ndefault_sni localhost\n}\n"
    return f"{options}{start}handle_path /app/* {{\nreverse_proxy{below}}}\nreverse_proxy{proxy}"


FILES = {"nginx": ("nginx.conf", nginx), "haproxy": ("haproxy.cfg", haproxy), "caddy": ("Caddyfile", caddy)}


@contextmanager
def proxied(program: str, file: Path) -> Iterator[None]:
    """Run a proxy whose configuration is in a file."""
    found, folder = find(program), file.parent
    commands: dict[str, list[str | Path]] = {
        "nginx": [found, "-p", folder, "-e", "stderr", "-c", file],
        "haproxy": [found, "-db", "-f", file],
        "caddy": [found, "run", "--adapter", "caddyfile", "--config", file],
    }
    homes = {name: str(folder) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    with running(commands[program], env=homes):
        yield


def write(name: str, text: str, folder: Path, port: int, *servers: int) -> Path:
    """Write a configuration with other ports."""
    for before, now in zip((8080, 8000, 8001), (port, *servers), strict=False):
        text = text.replace(f":{before}", f":{now}").replace(f"listen {before}", f"listen {now}")
    if name.startswith("nginx"):
        text = f"pid {folder / 'pid'}; error_log stderr; daemon off;\n{text}"
    (folder / name).write_text(text)
    return folder / name


async def wait_listening(port: int) -> None:
    def is_listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((PROXY, port)) == 0

    await until(is_listening)


@asynccontextmanager
async def serving(*servers: Server, **options: Any) -> AsyncIterator[list[int]]:
    """Serve; yield the ports."""
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            ports = []
            for server in servers:
                (address,) = await nursery.start(partial(server.serve, PROXY, 0, **options))
                ports.append(address[1])
            yield ports
            nursery.cancel_scope.cancel()


def client_with(tls: ssl.SSLContext) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(verify=tls, local_address=CLIENT)
    return httpx.AsyncClient(transport=transport, timeout=SECONDS)


@pytest.mark.parametrize("program", [pytest.param(name, marks=needs(name)) for name in FILES])
async def test_links_and_addresses_are_those_of_the_client(
    make_server: MakeServer, certificate: Certificate, tmp_path: Path, program: str
) -> None:
    apps = [make_server(app=app, trusted_proxies=[PROXY]) for app in (make_starlette(), make_quart())]
    name, adapt = FILES[program]
    text = adapt((CONFIGURATIONS / name).read_text(), certificate, tmp_path)
    port = free_port()
    async with serving(*apps) as ports:
        with proxied(program, write(name, text, tmp_path, port, *ports)):
            await wait_listening(port)
            async with client_with(certificate.context) as client:
                for prefix in ("", "", "/app", "/app"):  # the two apps take turns
                    base = f"https://localhost:{port}{prefix}"
                    response = await client.get(f"{base}/link?a=b", headers=FORGED)
                    assert response.json() == [f"{base}/sub/x", f"{base}/link?a=b", CLIENT]


NGINX = [needs("nginx"), needs("nginx's stream module")]


@pytest.mark.parametrize(
    ("program", "name", "version"),
    [
        pytest.param("haproxy", "haproxy_tcp.cfg", "send-proxy-v2", id="haproxy-v2", marks=needs("haproxy")),
        pytest.param("haproxy", "haproxy_tcp.cfg", "send-proxy", id="haproxy-v1", marks=needs("haproxy")),
        pytest.param("nginx", "nginx_tcp.conf", "", id="nginx-v1", marks=NGINX),
    ],
)
async def test_proxies_of_tcp_say_who_the_client_is_before_tls(
    make_server: MakeServer, certificate: Certificate, tmp_path: Path, program: str, name: str, version: str
) -> None:
    server = make_server(trusted_proxies=[PROXY])

    @server.endpoint("/peer")
    async def peer(request: Request) -> Response:
        return Response(request.peer)

    @server.route("/stream")
    async def stream(connection: Connection) -> None:
        await connection.send(connection.peer)

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate.chain, certificate.key)
    text = (CONFIGURATIONS / name).read_text().replace("send-proxy-v2", version)
    port = free_port()
    async with serving(server, proxy_protocol=True, ssl_context=tls) as ports:
        with proxied(program, write(name, text, tmp_path, port, *ports)):
            await wait_listening(port)
            async with client_with(certificate.context) as client:
                response = await client.get(f"https://localhost:{port}/peer", headers=FORGED)
                assert response.text.startswith(f"{CLIENT}:")
                response = await client.get(f"https://localhost:{port}/stream", headers=FORGED)
                assert f"data: {CLIENT}:" in response.text
