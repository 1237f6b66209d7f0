"""Faults that the suite has found, each where it was found."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..support.certificates import Certificate
from . import scenarios  # noqa: F401
from .case import Case, Resources, run_case
from .logs import Logs
from .places import Place


@pytest.fixture
def resources(tmp_path: Path, certificate: Certificate) -> Resources:
    return Resources(certificate, Logs(tmp_path))


@pytest.mark.integration  # it takes a second
def test_a_stream_of_an_app_that_ends_with_its_http2_connection_is_reset_without_a_task(
    resources: Resources,
) -> None:
    """The nursery of the connection's tasks was closed already, and starting one failed."""
    for number in range(75, 100):  # the step moves with each change of the steps before it
        for seed in range(2):
            run_case(
                Case("two clients", "quart-memory-http2", "memory", Place.CONNECTION, number, seed, True),
                resources,
            )
