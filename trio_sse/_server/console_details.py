"""The tables of several workers as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .shared_metrics import Details

_MOST_TOPICS = 80
_MOST_STREAMS = 40
_MOST_ENDS = 50


def merge_details(all_details: Sequence[Details], *, has_one_log: bool) -> Details:
    """Return what the console shows of all workers.

    Args:
        has_one_log: all have the same events, so that each counts once.
    """
    streams = [stream for details in all_details for stream in details["streams"]]
    ends = [end for details in all_details for end in details["ends"]]
    return {
        "topics": _merge_topics(all_details, has_one_log=has_one_log),
        "streams": sorted(streams, key=lambda row: (-row["waiting_bytes"], -row["age"]))[:_MOST_STREAMS],
        "ends": sorted(ends, key=lambda row: -float(row["at"]))[:_MOST_ENDS],
    }


def _merge_topics(all_details: Sequence[Details], *, has_one_log: bool) -> list[dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for details in all_details:
        for topic in details["topics"]:
            one = merged.get(topic["name"])
            if one is None:
                merged[topic["name"]] = dict(topic)
                continue
            one["subscribers"] += topic["subscribers"]
            for name in ("rate", "log_events", "log_bytes"):
                values = [value for value in (one[name], topic[name]) if value is not None]
                one[name] = (max(values) if has_one_log else sum(values)) if values else None
    rows = sorted(merged.values(), key=lambda row: (-row["subscribers"], -(row["rate"] or 0), row["name"]))
    return rows[:_MOST_TOPICS]
