"""The dashboard and the alert rules of the examples: their queries use what is exported, and Prometheus runs
them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from trio_sse import Connection, EndReason
from trio_sse._server.metric_families import METRICS, MetricType
from trio_sse._server.worker_counts import RestartReason

from ..support.cases import Cases
from ..support.leaks import MakeServer
from ..support.ports import free_port
from ..support.processes import running
from ..support.requirements import find, needs
from ..support.serving import on_sockets
from ..support.waiting import SECONDS

EXAMPLES = Path(__file__).parents[2] / "examples"
MONITORING = EXAMPLES / "monitoring"
ALERTS = (MONITORING / "alerts.yml").read_text()

# What Prometheus itself adds.
TARGET_LABELS = {"job", "instance"}


def alert_queries() -> list[str]:
    """Return the queries of the alert rules, folded ones on one line."""
    found = re.findall(r"^ +expr: (?:>-\n((?: {10}.*\n)+)|(.+)\n)", ALERTS, re.MULTILINE)
    return [" ".join((folded or plain).split()) for folded, plain in found]


def dashboard() -> Any:
    return json.loads((MONITORING / "grafana.json").read_text())


def dashboard_queries() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def exported_series() -> dict[str, set[str]]:
    """Return the names that queries may use, and their labels."""
    series: dict[str, set[str]] = {}
    for metric in METRICS:
        labels = {*metric.labels, *TARGET_LABELS}
        if metric.type is MetricType.HISTOGRAM:
            series |= {f"{metric.name}_sum": labels, f"{metric.name}_count": labels}
            series[f"{metric.name}_bucket"] = {*labels, "le"}
        else:
            series[metric.name] = labels
    return series


def test_queries_use_names_and_labels_that_are_exported() -> None:
    series = exported_series()
    with Cases() as cases:
        for query in (*alert_queries(), *dashboard_queries()):
            with cases.case(query):
                check_query(query, series)


def check_query(query: str, series: dict[str, set[str]]) -> None:
    names = re.findall(r"trio_sse_\w+", re.sub(r'"[^"]*"', "", query))
    assert set(names) <= series.keys()
    for name, selector in re.findall(r"(trio_sse_\w+)\{([^}]*)\}", query):
        assert set(re.findall(r"(\w+)=", selector)) <= series[name]
    allowed = set().union(*(series[name] for name in names)) | TARGET_LABELS
    for grouping in re.findall(r"by \(([^)]*)\)", query):
        assert set(grouping.split(", ")) <= allowed


def test_reasons_in_queries_exist() -> None:
    reasons = re.findall(r'reason(?:=~?|!=)"([^"]*)"', " ".join(alert_queries()))
    known = {reason.value for reason in (*EndReason, *RestartReason)}
    assert {one for found in reasons for one in found.split("|")} <= known


def test_each_alert_says_why_and_the_readme_lists_the_files() -> None:
    count = ALERTS.count("- alert: ")
    assert count == len(alert_queries()) > 10
    for field in ("severity: ", "summary: ", "reason: "):
        assert ALERTS.count(field) == count, field
    listed = re.findall(r"^\| \[`monitoring/([\w.]+)`\]", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(file.name for file in MONITORING.iterdir())


async def ask(client: httpx.AsyncClient, path: str, *, waits: bool = False, **parameters: str) -> Any:
    """Return what Prometheus answers, when it has started; with `waits`, when there is a result."""
    with trio.fail_after(SECONDS):
        while True:
            with suppress(httpx.TransportError, json.JSONDecodeError):  # it starts
                answer = (await client.get(path, params=parameters)).json()
                assert answer["status"] == "success", answer
                if answer["data"].get("result") or not waits:
                    return answer["data"]
            await trio.sleep(0.05)


@pytest.mark.integration
@needs("prometheus")
async def test_prometheus_scrapes_a_server_and_runs_the_rules(
    make_server: MakeServer, tmp_path: Path
) -> None:
    server = make_server(metrics_path="/metrics")

    @server.route("/rooms/{room}")
    async def room(connection: Connection, room: str) -> None:
        await connection.subscribe(room)

    port = free_port()
    config = (MONITORING / "prometheus.yml").read_text()
    async with on_sockets(server) as serving, await serving.connect() as client:
        await client.get("/rooms/1")
        target = serving.url("").removeprefix("http://").rstrip("/")
        config = config.replace("127.0.0.1:8000", target).replace("interval: 15s", "interval: 100ms")
        (tmp_path / "prometheus.yml").write_text(config)
        (tmp_path / "alerts.yml").write_text(ALERTS)
        command = [
            find("prometheus"),
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]
        base = f"http://127.0.0.1:{port}/api/v1"
        async with running(*command), httpx.AsyncClient(base_url=base, timeout=SECONDS) as prometheus:
            groups = (await ask(prometheus, "/rules"))["groups"]
            assert len(groups[0]["rules"]) == len(alert_queries())
            for query in (*alert_queries(), *dashboard_queries()):
                plain = query.replace("$__rate_interval", "1m").replace("$instance", ".*")
                await ask(prometheus, "/query", query=plain)  # fails if it is not valid
            # It looks for targets every five seconds.
            found = await ask(prometheus, "/query", waits=True, query="trio_sse_streams")
            assert found["result"][0]["metric"]["route"] == "/rooms/{room}"
            assert found["result"][0]["value"][1] == "1"
