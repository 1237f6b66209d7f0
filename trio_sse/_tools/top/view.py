"""Drawing the screen of `trio-sse top`, with Rich. All foreign text is made printable, and never markup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from .model import TABS, Model
from .text import clock, count, percent, printable, seconds, size, sparkline

_Row = dict[str, Any]

#: A column: its title, its text, and whether it has numbers.
_Column = tuple[str, Callable[[_Row], str], bool]

_TITLES = {
    "streams": "Connections",
    "topics": "Topics",
    "ends": "Ends",
    "kinds": "Routes",
    "workers": "Workers",
    "nodes": "Nodes",
}

_CHARTS: Sequence[tuple[str, str, Callable[[float | None], str]]] = (
    ("Open streams", "open_streams", count),
    ("Events/s", "events_rate", count),
    ("Bytes/s", "bytes_rate", size),
    ("Published/s", "published_rate", count),
    ("Loop busy", "loop_busy", percent),
    ("Longest turn", "longest_turn", seconds),
    ("Lagging", "lagging", count),
    ("Memory", "memory", size),
)

#: A worker is silent after so many seconds without a report; the page has the same number.
SILENT = 20

_SILENCE = "silence"  # what is added to a worker's report


def _state(row: _Row) -> str:
    if (silence := row.get(_SILENCE, 0)) > SILENT:
        return f"silent for {seconds(silence)}"
    return "draining" if row["is_draining"] else ", ".join(row["problems"]) or "serves"


_LOAD: Sequence[_Column] = (
    ("State", _state, False),
    ("Reported", lambda row: clock(row["at"]), False),
    ("Open", lambda row: count(row["open_streams"]), True),
    ("Lagging", lambda row: count(row["lagging"]), True),
    ("Longest turn", lambda row: seconds(row["longest_turn"]), True),
    ("Memory", lambda row: size(row["memory"]), True),
    ("Descriptors", lambda row: count(row["descriptors"]), True),
)

_COLUMNS: dict[str, Sequence[_Column]] = {
    "streams": (
        ("Stream", lambda row: f"#{row['id']}", False),
        ("Path", lambda row: row["path"], False),
        ("Client", lambda row: row["peer"], False),
        ("Identity", lambda row: row.get("identity") or "", False),
        ("Topics", lambda row: ", ".join(row["topics"]), False),
        ("Age", lambda row: seconds(row["age"]), True),
        ("Events", lambda row: count(row["events"]), True),
        ("Waiting", lambda row: size(row["waiting_bytes"]), True),
    ),
    "topics": (
        ("Topic", lambda row: row["name"], False),
        ("Subscribers", lambda row: count(row["subscribers"]), True),
        ("Events/s", lambda row: count(row["rate"]), True),
        ("In the log", lambda row: count(row["log_events"]), True),
        ("Bytes", lambda row: size(row["log_bytes"]), True),
    ),
    "ends": (
        ("At", lambda row: clock(row["at"]), False),
        ("Stream", lambda row: f"#{row['id']}", False),
        ("Reason", lambda row: row["reason"].replace("_", " "), False),
        ("Path", lambda row: row["path"], False),
        ("Client", lambda row: row["peer"], False),
        ("Lasted", lambda row: seconds(row["age"]), True),
        ("Events", lambda row: count(row["events"]), True),
    ),
    "kinds": (
        ("Route", lambda row: row["route"], False),
        ("Transport", lambda row: row["transport"], False),
        ("HTTP", lambda row: row["http"] + (" TLS" if row["tls"] else ""), False),
        ("Open", lambda row: count(row["open"]), True),
    ),
    "workers": (("Process", lambda row: str(row["pid"]), False), *_LOAD),
    "nodes": (
        ("Node", lambda row: row["name"] + (" (this one)" if row["is_own"] else ""), False),
        ("Workers", lambda row: count(row["processes"]), True),
        *_LOAD,
    ),
}


_KEYS = (
    ("1 to 6, Tab", "another table"),
    ("arrow keys", "select a row"),
    ("Enter, w", "watch a topic; Esc stops"),
    ("p", "publish an event"),
    ("e", "end the selected connection"),
    ("d", "drain this server, or the selected worker or node"),
    ("Space", "pause"),
    ("q", "quit"),
)

_WIDTHS = {"Client": 15, "Reason": 19}

_COUNTS = (("Ended", "ended"), ("Refused", "refused"))

_CHART_LINES = 4
_WATCH_LINES = 8


def render(model: Model, console: Console) -> RenderableType:
    """Return what fills the screen."""
    width, height = console.size
    is_ascii = not (console.encoding or "").lower().startswith("utf")
    parts: list[RenderableType] = [_head(model), _charts(model, width, is_ascii=is_ascii), _tabs(model)]
    left = height - _CHART_LINES - 4
    if model.shows_help:
        parts.append(_help())
    elif model.snapshot is None:
        parts.append(Text("Waiting for the server.", style="dim"))
    else:
        watched = min(_WATCH_LINES, left // 2) if model.topic is not None else 0
        lines = max(1, left - 1 - watched)
        first = max(0, min(model.selected - lines // 2, len(model.rows) - lines))
        rows = _rows(model.snapshot, model.tab)
        parts.append(_table(model.tab, rows[first : first + lines], model.selected - first))
        if watched:
            parts += _watched(model, watched)
    return Group(*parts)


def render_all(model: Model, console: Console) -> RenderableType:
    """Return everything, one table below the other, for paper rather than a screen."""
    is_ascii = not (console.encoding or "").lower().startswith("utf")
    parts: list[RenderableType] = [_head(model), _charts(model, console.width, is_ascii=is_ascii), Text()]
    if model.snapshot is not None:
        parts += [_counts(title, model.snapshot[name]) for title, name in _COUNTS]
    for tab in TABS:
        rows = () if model.snapshot is None else _rows(model.snapshot, tab)
        if rows:
            parts += [Text(f"\n{_TITLES[tab]}", style="bold"), _table(tab, rows)]
    return Group(*parts)


def render_foot(model: Model) -> Text:
    """Return the last line: what is asked, what was done, or the keys."""
    if model.prompt is not None:
        return _line((model.prompt.question, "bold"), (model.prompt.text, ""), ("█", "blink"))
    if model.message:
        return _line((model.message, "bold"))
    return _line(("? keys   1-6 tables   w watch   p publish   e end   d drain   q quit", "dim"))


def _head(model: Model) -> Text:
    silence = model.silence
    status = "paused" if model.is_paused and silence is None else model.status
    if silence is not None and status in ("live", "connected", "connecting"):
        status = f"no answer for {silence:.0f} s"
    style = {"live": "bold green", "paused": "bold yellow"}.get(status, "bold red")
    parts = [("trio_sse ", "bold"), (status, style)]
    if model.snapshot is not None:
        problems = model.snapshot["problems"]
        if silence is not None:
            parts.append(("  problems unknown", "dim"))
        else:
            parts.append(("  " + (", ".join(problems) or "no problems"), "bold red" if problems else "green"))
        workers = len(model.snapshot["workers"])
        parts.append((f"  {workers} workers, process" if workers else "  process", "dim"))
        parts.append((f" {model.snapshot['pid']}, {clock(model.snapshot['at'])}", "dim"))
    return _line(*parts)


def _charts(model: Model, width: int, *, is_ascii: bool) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    columns = 2
    for _ in range(columns):
        grid.add_column(ratio=1)
    room = max(8, width // columns - 26)
    latest = model.samples[-1] if model.samples else {}
    cells = [
        _line(
            (f"{title:<13}", "dim"),
            (f"{text(latest.get(name)):>9} ", "bold"),
            (sparkline([sample.get(name) for sample in model.samples], room, is_ascii=is_ascii), "cyan"),
        )
        for title, name, text in _CHARTS
    ]
    for start in range(0, len(cells), columns):
        grid.add_row(*cells[start : start + columns])
    return grid


def _rows(snapshot: _Row, tab: str) -> Sequence[_Row]:
    rows: Sequence[_Row] = snapshot.get(tab, ())
    if tab != "workers":
        return rows
    return [{**row, _SILENCE: snapshot["at"] - row["at"]} for row in rows]


def _tabs(model: Model) -> Text:
    parts = [
        (f" {number} {_TITLES[tab]} ", "reverse" if tab == model.tab else "dim")
        for number, tab in enumerate(TABS, 1)
    ]
    return _line(("\n", ""), *parts)


def _counts(title: str, numbers: dict[str, float]) -> Text:
    counts = ", ".join(f"{label.replace('_', ' ')} {count(number)}" for label, number in numbers.items())
    return _line((f"{title:<13}", "dim"), (f" {counts or 'none'}", ""))


def _table(tab: str, rows: Sequence[_Row], selected: int | None = None) -> Table:
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="dim")
    columns = _COLUMNS[tab]
    for title, _, is_number in columns:
        if is_number:
            table.add_column(title, justify="right", no_wrap=True)
        else:
            width = _WIDTHS.get(title)
            ratio = 2 if title in ("Path", "Topic", "Route") else 1
            table.add_column(title, no_wrap=True, ratio=ratio if width is None else None, width=width)
    for place, row in enumerate(rows):
        cells = [Text(printable(text(row))) for _, text, _ in columns]
        table.add_row(*cells, style="reverse" if place == selected else "")
    if not rows:
        table.add_row(Text("nothing to show", style="dim"))
    return table


def _watched(model: Model, lines: int) -> list[RenderableType]:
    parts: list[RenderableType] = [_line((f"Watching {model.topic}", "bold"), ("  Esc stops", "dim"))]
    for event in list(model.events)[: lines - 1]:
        if event["kind"] == "left_out":
            parts.append(_line((f"{event.get('events', 'some')} events were left out", "yellow")))
        else:
            parts.append(
                _line((f"{event['event']} ", "cyan"), (f"{event['id']} ", "dim"), (event["data"], ""))
            )
    return parts


def _help() -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for keys, what in _KEYS:
        table.add_row(Text(keys, style="bold"), Text(what))
    return table


def _line(*parts: tuple[str, str]) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    for part, style in parts:
        text.append(part if part == "\n" else printable(part), style)
    return text
