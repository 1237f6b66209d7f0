"""The id to resume from, in a header and in the spellings that clients use in queries."""

from __future__ import annotations

from urllib.parse import quote

from trio_sse._http.request import Headers, find_last_event_id

from ..support.cases import each_case


def found(query: str, header: str | None = None) -> str | None:
    """Return the id of a request with this query and header."""
    headers = [] if header is None else [(b"last-event-id", header.encode())]
    return find_last_event_id(Headers(headers), query)


@each_case(
    "name",
    ["last_event_id", "lastEventId", "evs_last_event_id", "lastEventID", "Last-Event-ID", "last-event-id"],
)
def test_every_spelling_is_known(name: str) -> None:
    assert found(f"a=1&{name}=e.7&b=2") == "e.7"


@each_case("name", ["event_id", "lastEvent", "last_event_ids", "my_last_event_id", ""])
def test_other_parameters_are_not_ids(name: str) -> None:
    assert found(f"{name}=e.7") is None


@each_case("query", ["", "last_event_id=", "last_event_id", "x=1"])
def test_without_an_id_there_is_none(query: str) -> None:
    assert found(query) is None
    assert found(query, "") is None
    assert found(query, "e.7") == "e.7"


IDS = [
    ("e.9", "e.10"),
    ("9-5", "10-0"),
    ("10-9", "10-10"),
    ("e.9~0123abcd.4~89abcdef.9", "e.10~0123abcd.9~89abcdef.4"),
    ("e.9", "e.10~0123abcd.9"),
]


@each_case(("old", "new"), IDS)
def test_the_newest_id_counts_wherever_it_is(old: str, new: str) -> None:
    q_old, q_new = quote(old, safe=""), quote(new, safe="")
    assert found(f"last_event_id={q_old}&lastEventId={q_new}") == new
    assert found(f"lastEventId={q_old}&last_event_id={q_new}") == new
    assert found(f"Last-Event-ID={q_new}&evs_last_event_id={q_old}&last_event_id={q_old}") == new
    assert found(f"last_event_id={q_old}&last_event_id={q_new}") == new
    assert found(f"last_event_id={q_old}", new) == new
    assert found(f"last_event_id={q_new}", old) == new


@each_case(("own", "other"), [("e.9", "f.3"), ("old", "new"), ("e.9", "9-9"), ("9", "9-9")])
def test_ids_that_cannot_be_compared_count_by_where_they_are(own: str, other: str) -> None:
    assert found(f"last_event_id={own}&lastEventId={other}") == other
    assert found(f"lastEventId={other}&last_event_id={own}") == other
    assert found(f"lastEventId={other}&last_event_id={other}", own) == own
    assert found(f"lastEventId={own}&lastEventID={other}") == other


def test_an_id_is_utf8_in_the_header_and_in_the_query() -> None:
    assert found("", "gr\xfc\xdfe") == found("last_event_id=gr%C3%BC%C3%9Fe") == "gr\xfc\xdfe"
