"""`python -m tests.fuzz.blind`: change the inputs of all corpora at random for some seconds, without atheris.

It finds little that `make fuzz` has not found, but needs nothing and is short. The seed that is printed and
the number of the input repeat a failure.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections.abc import Sequence

from . import corpus

_MOST_CHANGES = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Check changed inputs; return the exit status."""
    parser = argparse.ArgumentParser("python -m tests.fuzz.blind", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args(arguments)
    seed = random.randrange(1 << 31) if options.seed is None else options.seed
    logging.disable(logging.CRITICAL)
    deadline = time.monotonic() + options.seconds
    targets = {name: corpus.load(name) for name in corpus.names()}
    inputs = {name: [*target.seeds(), *corpus.read(name)] for name, target in targets.items()}
    count = 0
    while time.monotonic() < deadline:
        count += 1
        for name, target in targets.items():
            data = changed(inputs[name], random.Random(f"{seed} {name} {count}"))
            try:
                target.check(data)
            except Exception as error:
                print(f"{name} is broken by {data!r}: {error!r} (--seed {seed}, input {count})")
                return 1
    print(f"{len(targets)} targets, {count} inputs each, --seed {seed}: none is broken")
    return 0


def changed(inputs: Sequence[bytes], chance: random.Random) -> bytes:
    """Return one of the inputs with a few changes, some of which are pieces of others."""
    data = bytearray(chance.choice(inputs))
    for _ in range(chance.randint(1, _MOST_CHANGES)):
        place = chance.randint(0, len(data))
        other = chance.choice(inputs)
        start = chance.randint(0, len(other))
        new = chance.choice((b"", chance.randbytes(1), chance.randbytes(3), other[start : start + 8]))
        data[place : place + chance.choice((0, 0, 1, len(new), 8))] = new
    return bytes(data[: corpus.LARGEST])


if __name__ == "__main__":
    sys.exit(main())
