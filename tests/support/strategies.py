"""What several tests have hypothesis generate."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

from trio_sse import ServerSentEvent

# Line ends, what is easily taken for one, and what the format gives a meaning.
_SPECIAL = "\r\n\x0b\x0c\x1c\x85\u2028\u2029\0\ufeff :\tdatei"

texts = st.text(st.one_of(st.sampled_from(_SPECIAL), st.characters(exclude_categories=["Cs"])), max_size=20)


def texts_without(characters: str, *, min_size: int = 0) -> st.SearchStrategy[str]:
    """Return texts in which none of these characters occurs."""
    allowed = "".join(character for character in _SPECIAL if character not in characters)
    return st.text(
        st.one_of(
            st.sampled_from(allowed),
            st.characters(exclude_categories=["Cs"], exclude_characters=characters),
        ),
        min_size=min_size,
        max_size=20,
    )


events = st.builds(
    ServerSentEvent,
    texts,
    event=st.none() | texts_without("\r\n", min_size=1),
    id=st.none() | texts_without("\r\n\0"),
    retry=st.none() | st.integers(0, 2**53 - 1),
    comment=st.none() | texts,
    topic=st.none() | texts_without("\r\n"),
)


def _repeated(pieces: list[tuple[str, int]]) -> str:
    return "".join(text * count for text, count in pieces)


#: Texts of up to some megabytes, many of them close to a bound: runs of few characters.
large_texts = st.lists(
    st.tuples(
        st.sampled_from(["\n", "\r", "\r\n", "x", "é", "\U0001f600", "x\n", "\0", ":", " ", '"'])
        | st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
        st.integers(0, 3)
        | st.builds(
            lambda bound, share, more: max(0, bound // share + more),
            st.sampled_from([4096, 64 * 1024, 1024 * 1024]),
            st.integers(1, 8),
            st.integers(-8, 8),
        ),
    ),
    max_size=3,
).map(_repeated)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """Cut bytes into pieces at these places; places beyond the end are ignored."""
    places = [0, *sorted({place for place in at if place < len(data)}), len(data)]
    return [data[start:end] for start, end in pairwise(places)]
