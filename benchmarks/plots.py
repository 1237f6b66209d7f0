"""Plot results as SVG in docs/benchmarks: `python -m benchmarks.plots FILE...`.

The files are written with `--json` by `benchmarks.compare`, `growth` and `soak`. Plots need matplotlib.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.harness.paths import ROOT

FOLDER = ROOT / "docs" / "benchmarks"

_TITLES = {
    "idle": "memory of an idle connection, KiB",
    "setup": "set-up of a connection, µs of CPU",
    "burst": "a delivery in a burst of 30, µs of CPU",
    "steady": "a delivery at 10 events a second, µs of CPU",
}


def main(files: list[str]) -> None:
    """Plot the results in the files."""
    FOLDER.mkdir(exist_ok=True)
    for file in files:
        written: dict[str, Any] = json.loads(Path(file).read_text())
        if "samples" in written:
            _plot_soak(written)
        for name, benchmark in written.get("benchmarks", {}).items():
            if name == "comparison":
                _plot_comparison(benchmark["measurements"])
            elif name == "growth":
                _plot_growth(benchmark["measurements"])


def _plot_comparison(measurements: list[dict[str, Any]]) -> None:
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(2, 2, figsize=(11, 7))
    for (what, title), ax in zip(_TITLES.items(), axes.flat, strict=True):
        rows = [
            row
            for row in measurements
            if row["name"].startswith(f"{what}, ") and not row["name"].endswith("ratio")
        ]
        rows.sort(key=lambda row: row["median"], reverse=True)
        names = [row["name"].partition(", ")[2] for row in rows]
        values = [row["median"] for row in rows]
        spread = [
            [row["median"] - min(row["values"]) for row in rows],
            [max(row["values"]) - row["median"] for row in rows],
        ]
        colours = ["#3b82f6" if "trio_sse" in name else "#94a3b8" for name in names]
        ax.barh(names, values, xerr=spread, color=colours, ecolor="#475569", capsize=2)
        ax.set_title(title, fontsize=10)
        ax.set_xscale("log" if max(values) > 30 * min(values) else "linear")
        ax.tick_params(labelsize=8)
    drawn.tight_layout()
    drawn.savefig(FOLDER / "compare.svg")


def _plot_growth(measurements: list[dict[str, Any]]) -> None:
    from matplotlib import pyplot

    drawn, ax = pyplot.subplots(figsize=(8, 4))
    for what in ("idle", "set-up", "burst", "steady"):
        rows = [
            row
            for row in measurements
            if row["name"].startswith(f"{what}, ") and row["name"].split(", ")[1].isdigit()
        ]
        counts = [int(row["name"].split(", ")[1]) for row in rows]
        first = rows[0]["median"]
        ax.plot(counts, [row["median"] / first for row in rows], marker="o", label=what)
    ax.set_xlabel("connections")
    ax.set_ylabel("cost, relative to the fewest connections")
    ax.set_ylim(bottom=0)
    ax.legend()
    drawn.tight_layout()
    drawn.savefig(FOLDER / "growth.svg")


def _plot_soak(soak: dict[str, Any]) -> None:
    from matplotlib import pyplot

    drawn, ax = pyplot.subplots(figsize=(8, 3))
    samples = soak["samples"]
    ax.plot([connects / 1000 for connects, _, _ in samples], [kib / 1024 for _, kib, _ in samples])
    ax.set_xlabel("thousand connections, of ten kinds, which have all ended")
    ax.set_ylabel("anonymous memory, MiB")
    ax.set_ylim(bottom=0)
    drawn.tight_layout()
    drawn.savefig(FOLDER / "soak.svg")


if __name__ == "__main__":
    main(sys.argv[1:])
