"""The tables of several workers as one, and what workers ask one another for."""

from __future__ import annotations

from typing import Any

from trio_sse._console.requests import WorkerRequest, WorkerRequests
from trio_sse._server.console_details import merge_details


def details(pid: int, **topic: object) -> dict[str, list[dict[str, Any]]]:
    named = {"name": "a", "subscribers": 1, "rate": 2.0, "log_events": 3, "log_bytes": 4, **topic}
    return {
        "topics": [named],
        "streams": [{"pid": pid, "id": n, "waiting_bytes": n % 2 * pid, "age": n} for n in range(30)],
        "ends": [{"pid": pid, "at": float(n)} for n in range(80)],
    }


def test_tables_are_merged_in_order_and_bounded() -> None:
    merged = merge_details([details(1), details(2, rate=None), details(3, name="b")], has_one_log=True)
    assert [
        (row["name"], row["subscribers"], row["rate"], row["log_events"]) for row in merged["topics"]
    ] == [
        ("a", 2, 2.0, 3),
        ("b", 1, 2.0, 3),
    ]
    assert [(row["pid"], row["id"]) for row in merged["streams"][:2]] == [(3, 29), (3, 27)]
    assert [row["at"] for row in merged["ends"][:4]] == [79.0, 79.0, 79.0, 78.0]
    assert (len(merged["streams"]), len(merged["ends"])) == (40, 50)


def test_logs_of_their_own_are_added_up() -> None:
    (row,) = merge_details([details(1), details(2)], has_one_log=False)["topics"]
    assert (row["subscribers"], row["rate"], row["log_events"], row["log_bytes"]) == (2, 4.0, 6, 8)
    (row,) = merge_details([details(1, rate=None), details(2, rate=None)], has_one_log=False)["topics"]
    assert row["rate"] is None


def test_a_request_is_taken_once_by_its_process_and_not_late() -> None:
    now = 1000.0
    requests = WorkerRequests(lambda: now)
    requests.add_end(7, 5, reconnect=True)
    requests.add_end(7, 6, reconnect=False)
    requests.add_end(8, 7, reconnect=True)
    requests.add_drain(7)
    assert requests.take(7) == [
        WorkerRequest(now, 7, None, True),
        WorkerRequest(now, 7, 5, True),
        WorkerRequest(now, 7, 6, False),
    ]
    assert requests.take(7) == []
    now += 31
    assert requests.take(8) == []
