"""The heads of the frames that clients send."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from trio_sse._wire.websocket_frames import FrameHeads

from ..support.strategies import cut

MAX = 70_000


def frame(size: int, *, opcode: int = 1, is_final: bool = True, declared: int | None = None) -> bytes:
    """Return a masked frame of this many bytes, which may declare others."""
    length = size if declared is None else declared
    if length < 126:
        head = struct.pack("!BB", is_final << 7 | opcode, 0x80 | length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", is_final << 7 | opcode, 0xFE, length)
    else:
        head = struct.pack("!BBQ", is_final << 7 | opcode, 0xFF, length)
    return head + b"mask" + b"x" * size


def feed(data: list[bytes]) -> int:
    """Return how many bytes of all pieces come before what is refused, or all of them."""
    heads = FrameHeads(MAX)
    count = 0
    for piece in data:
        accepted = heads.feed(piece)
        count += accepted
        if accepted < len(piece):
            break
    return count


SIZES = st.sampled_from([0, 1, 125, 126, 127, 300, 65_535, 65_536, MAX])


@given(sizes=st.lists(SIZES, max_size=5), at=st.lists(st.integers(0, 400_000), max_size=6))
def test_messages_within_the_bound_are_accepted(sizes: list[int], at: list[int]) -> None:
    data = b"".join(frame(size) + frame(5, opcode=9) for size in sizes)

    assert feed(cut(data, at)) == len(data)


@given(size=SIZES, declared=st.sampled_from([MAX + 1, 1 << 40, (1 << 63) - 1]))
def test_a_head_that_declares_too_much_is_refused_when_it_is_complete(size: int, declared: int) -> None:
    before, head = frame(size), frame(0, declared=declared)[:10]
    heads = FrameHeads(MAX)

    assert heads.feed(before + head[:9]) == len(before) + 9
    assert heads.feed(head[9:]) == 0
    assert feed([before + head + b"more"]) == len(before)


def test_the_fragments_of_a_message_count_together() -> None:
    first = frame(MAX - 10, is_final=False) + frame(100, opcode=9)

    assert feed([first + frame(10, opcode=0) + frame(MAX)]) == len(first) + len(frame(10)) + len(frame(MAX))
    assert feed([first + frame(11, opcode=0)]) == len(first)


def test_malformed_frames_are_not_judged_here() -> None:
    data = frame(0, declared=1 << 63) + b"x"

    assert feed([data]) == len(data)
