"""Bytes on the wire of a state, as patches and as full snapshots: `python -m benchmarks.state_bytes`.

The same values are set 300 times. The result is the bytes that one client receives, without HTTP's framing.
It depends on nothing but the values, so one round is enough.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import trio

from trio_sse import Hub, PatchFormat

Values = Callable[[random.Random], Iterator[object]]

UPDATES = 300


def dashboard(chance: random.Random) -> Iterator[object]:
    """Thirty numbers of a dashboard; three of them change each time."""
    numbers = {f"{group}_{number}": 1000.0 for group in ("cpu", "memory", "disk") for number in range(10)}
    while True:
        for name in chance.sample(sorted(numbers), 3):
            numbers[name] = round(numbers[name] + chance.uniform(-9, 9), 1)
        yield {"title": "Cluster", "figures": numbers}


def table(chance: random.Random) -> Iterator[object]:
    """Fifty rows of a table; two cells change each time."""
    rows = [{"id": number, "name": f"Item {number}", "status": "idle", "progress": 0} for number in range(50)]
    while True:
        for number in chance.sample(range(50), 2):
            rows[number] = {**rows[number], "status": "busy", "progress": chance.randrange(100)}
        yield {"rows": rows}


def presence(chance: random.Random) -> Iterator[object]:
    """A hundred people by id; each time one joins, leaves or changes their activity."""
    people: dict[str, object] = {f"u{number}": {"name": f"Person {number}"} for number in range(100)}
    while True:
        id = f"u{chance.randrange(150)}"
        if chance.random() < 0.3:
            people.pop(id, None)
        else:
            people[id] = {"name": f"Person {id[1:]}", "does": chance.choice(["types", "reads"])}
        yield {"people": people}


async def count_bytes(values: Values, patch: PatchFormat | None) -> int:
    """Return the bytes of the events that one subscriber receives. `None` publishes each value in full."""
    hub, source, size = Hub(), values(random.Random(1)), 0
    state = None if patch is None else hub.state("s", next(source), patch=patch)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        async with hub.subscribe("s") as events:
            if patch is not None:
                size += len((await anext(events)).encode())
            for _ in range(UPDATES):
                value = next(source)
                await (hub.publish("s", value) if state is None else state.set(value))
            cursor = ""
            with trio.move_on_after(0.5):
                async for event in events:
                    size += len(event.encode())
                    cursor = event.id or ""
            assert cursor.startswith(hub.last_event_id)  # all that was sent
        nursery.cancel_scope.cancel()
    return size


def main() -> None:
    """Print a table in Markdown."""
    print("| state | full values | JSON Merge Patch | JSON Patch |\n|---|---|---|---|")
    for values in (dashboard, table, presence):
        whole, merge, patch = (
            trio.run(count_bytes, values, format) for format in (None, PatchFormat.MERGE, PatchFormat.JSON)
        )
        name = (values.__doc__ or "").rstrip(".")
        print(
            f"| {name} | {whole / UPDATES:,.0f} bytes an update "
            f"| {merge / UPDATES:,.0f} ({merge / whole:.1%}) | {patch / UPDATES:,.0f} ({patch / whole:.1%}) |"
        )


if __name__ == "__main__":
    main()
