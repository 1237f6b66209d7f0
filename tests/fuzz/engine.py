"""`python -m tests.fuzz.engine TARGET [libFuzzer's options]`: fuzz one target here, with atheris."""

from __future__ import annotations

import logging
import sys

import atheris

from . import corpus


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer's options, or a finding, end the process."""
    name, *options = arguments
    logging.disable(logging.CRITICAL)
    with atheris.instrument_imports(include=["trio_sse"]):
        target = corpus.load(name)
        for data in target.seeds():
            target.check(data)  # which imports the rest
    atheris.Setup(["fuzz", *options], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
