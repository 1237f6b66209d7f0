"""Where things are."""

from __future__ import annotations

from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1]
ROOT = BENCHMARKS.parent

NATIVE = BENCHMARKS / "native"
PEERS = BENCHMARKS / "peers"
BUILD = BENCHMARKS / "build"
RESULTS = BENCHMARKS / "results"
HISTORY = BENCHMARKS / "history"
