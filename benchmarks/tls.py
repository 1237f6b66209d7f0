"""What TLS costs a stream: `python -m benchmarks.tls`. The load needs OpenSSL's headers for it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import trustme

from . import _subjects, fanout
from ._command_line import Benchmark, Settings, main
from ._figures import Figure, ratio

TARGET_RATIO = 1.5


async def measure(settings: Settings) -> list[Figure]:
    plain: list[fanout.Turn] = []
    secured: list[fanout.Turn] = []
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        issued = trustme.CA().issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(key)
        issued.cert_chain_pems[0].write_to_path(certificate)
        start_secured = _subjects.native_secured(str(certificate), str(key))
        for _ in range(settings.rounds):
            plain.append(await _turn(_subjects.native, settings.connections))
            secured.append(await _turn(start_secured, settings.connections, "--tls"))
    burst, burst_tls = fanout.burst_figure("burst", plain), fanout.burst_figure("burst, TLS", secured)
    steady, steady_tls = fanout.steady_figure("steady", plain), fanout.steady_figure("steady, TLS", secured)
    return [
        burst,
        burst_tls,
        ratio(burst_tls, burst, "plain one"),
        steady,
        steady_tls,
        ratio(steady_tls, steady, "plain one", TARGET_RATIO),
        fanout.busiest_load([*plain, *secured]),
    ]


async def _turn(start_server: _subjects.StartServer, connections: int, *options: str) -> fanout.Turn:
    async with start_server() as (server, port), _subjects.load(port, connections, *options) as load:
        return await fanout.deliver(server, load, connections, fanout.FULL)


BENCHMARK = Benchmark("TLS", 4000, measure)

if __name__ == "__main__":
    main([BENCHMARK])
