"""Each target's promise holds for all inputs that are kept, and for those from which fuzzing begins."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from ..support.cases import each_case
from . import corpus

# Of the seeds, which the corpus of raw requests has by the hundred, some are enough: it is tested by itself.
_MOST_SEEDS = 40


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    """Some targets log what they read, of which there is too much."""
    before = logging.root.manager.disable
    yield
    logging.disable(before)


@pytest.mark.slow
@each_case("name", corpus.names())
def test_the_promise_of_a_target_holds_for_its_corpus(name: str) -> None:
    target = corpus.load(name)
    seeds = list(target.seeds())
    for data in (*seeds[:: len(seeds) // _MOST_SEEDS + 1], *corpus.read(name)):
        try:
            target.check(data)
        except Exception as error:
            raise AssertionError(f"{name} is broken by {data!r}") from error
