"""The example of a log on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from ..support.postgres_server import INITDB, postgres_server
from ..support.programs import example
from ..support.waiting import SECONDS

pytestmark = pytest.mark.integration


@pytest.fixture
def database() -> Iterator[str]:
    if INITDB is None:
        pytest.skip("PostgreSQL is missing: apt install postgresql")
    with postgres_server() as url:
        yield url


def ids_and_data(url: str, count: int, last_event_id: str | None = None) -> list[tuple[str, str]]:
    """Return the ids and data of the first events of a node's clock."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    found: list[tuple[str, str]] = []
    with httpx.stream("GET", f"{url}/clock", headers=headers, timeout=SECONDS) as response:
        identifier = ""
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                identifier = value
            elif name == "data":
                found.append((identifier, value))
                if len(found) == count:
                    break
    return found


def test_two_nodes_share_the_log(database: str) -> None:
    env = {"DATABASE_URL": database}
    with example("postgres_log", env=env) as (_, one), example("postgres_log", env=env) as (_, other):
        events = ids_and_data(one, 4)
        assert ids_and_data(other, 3, events[0][0]) == events[1:]


def test_without_a_database_the_node_is_not_ready() -> None:
    env = {"DATABASE_URL": "postgresql://127.0.0.1:1/none"}
    with example("postgres_log", env=env) as (_, url):
        assert httpx.get(f"{url}/health").status_code == 503
