"""Header fields of an app's response: all of them are checked at once, as each would be."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from trio_sse._http.fields import check_raw_field, check_raw_fields

BYTES = st.text("aZ09-:\t \r\n\0\x0b\x7f\x80\xff", max_size=6).map(lambda text: text.encode("latin-1"))
GOOD = st.tuples(st.sampled_from([b"a", b"X-Y"]), st.sampled_from([b"", b"a b\t\xff"]))


@given(fields=st.lists(GOOD | st.tuples(BYTES, BYTES), max_size=4))
def test_fields_are_refused_together_as_each_of_them_is(fields: list[tuple[bytes, bytes]]) -> None:
    def is_accepted() -> bool:
        for name, value in fields:
            check_raw_field(name, value)
        return True

    accepted = False
    with contextlib.suppress(ValueError):
        accepted = is_accepted()
    accepted_together = False
    with contextlib.suppress(ValueError):
        check_raw_fields(fields)
        accepted_together = True
    assert accepted_together is accepted
