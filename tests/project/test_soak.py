"""The soak: how it judges, and that it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak.kinds import END_SHARES, ENDS, KINDS
from benchmarks.soak.slopes import Sample, fit

from ..support.programs import ROOT
from ..support.waiting import SECONDS


def samples(*, kib: float = 0.0, tasks: float = 0.0, slower: float = 0.0) -> list[Sample]:
    """Return samples of a million connections that cost a millisecond each, and 2 ms in the beginning."""
    cpu, made = 0.0, [Sample(0, 10_000, 20, 50, 0.0)]
    for number in range(1, 51):
        cpu += (2 if number < 10 else 1 + slower * number / 50) * 20
        settled = max(0, number - 10) / 5
        made.append(Sample(20_000 * number, 40_000 + kib * settled, 20, 50 + tasks * settled, cpu))
    return made


def test_what_grows_in_the_warm_up_does_not_count() -> None:
    slopes = fit(samples())
    assert slopes.faults(kib=1, slower=1) == []
    assert (slopes.kib, slopes.tasks, slopes.descriptors) == (0, 0, 0)
    assert slopes.first_us == pytest.approx(1000)


@pytest.mark.parametrize(
    ("grown", "fault"),
    [
        (samples(kib=200), "memory grows by 200 KiB in 100,000 connections"),
        (samples(tasks=3), "tasks grow by 3.0 in 100,000 connections"),
        (samples(slower=1), "a connection costs 58 % more at the end"),
    ],
)
def test_what_grows_is_a_fault(grown: list[Sample], fault: str) -> None:
    assert fit(grown).faults(kib=100, slower=20) == [fault]


def test_too_few_samples_have_no_slope() -> None:
    with pytest.raises(ValueError, match="too few"):
        fit(samples()[:2])


def test_all_connections_have_a_kind_and_an_end() -> None:
    assert sum(kind.share for kind in KINDS.values()) == sum(END_SHARES.values()) == 100
    assert set(END_SHARES) == set(ENDS)


@pytest.mark.integration
def test_the_soak_runs(tmp_path: Path) -> None:
    """A few connections of the kinds that load nothing large; too few for a slope."""
    command = [sys.executable, "-m", "benchmarks.soak", "--connects", "51", "--batches", "3"]
    command += ["--topics", "20", "--subscribers", "5", "--deliveries", "0", "--slower", "1e9"]
    command += ["--kinds", "stream", "poll", "upload", "run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS * 3, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "connections: 51" in done.stdout
