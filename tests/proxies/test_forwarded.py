"""What the fields of trusted proxies say, and what clients cannot make them say."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_sse._http.request import Headers
from trio_sse._proxies.forwarded import FORWARDED_HEADERS, Forwarded, ForwardedReader, parse_root_path
from trio_sse._proxies.trusted_proxies import TrustedProxies

from ..support.cases import each_case

CLIENT = "203.0.113.7"
PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8::/32", "unix"])
READER = ForwardedReader(PROXIES)


def read(*lines: str, reader: ForwardedReader = READER) -> Forwarded | None:
    """Read header lines like those of a request."""
    split = (line.partition(": ") for line in lines)
    return reader.read(Headers([(name.encode(), value.encode("latin-1")) for name, _, value in split]))


def client_of(*values: str) -> tuple[str, int] | None:
    """Return the client in fields `X-Forwarded-For`."""
    forwarded = read(*(f"X-Forwarded-For: {value}" for value in values))
    assert forwarded is not None
    return forwarded.client


def test_without_fields_nothing_is_said() -> None:
    assert read("Host: test", "X-Forwarded: x", "X-Forwarded-Fort: 1.2.3.4", "X-Real-IP: 1.2.3.4") is None


# X-Forwarded-For


@each_case(
    ("values", "client"),
    [
        ([CLIENT], (CLIENT, 0)),
        ([f"{CLIENT}:4711"], (CLIENT, 4711)),
        (["2001:DB9::1"], ("2001:db9::1", 0)),
        (["[2001:db9::1]:80"], ("2001:db9::1", 80)),
        ([f"::ffff:{CLIENT}"], (CLIENT, 0)),
        ([f"{CLIENT}, 10.0.0.2, 10.0.0.1"], (CLIENT, 0)),
        ([f"1.1.1.1, {CLIENT} ,\t10.0.0.1"], (CLIENT, 0)),
        (["1.1.1.1", CLIENT], (CLIENT, 0)),
        ([CLIENT, "10.0.0.1"], (CLIENT, 0)),
        ([f"{CLIENT}, unix:, 10.0.0.1"], (CLIENT, 0)),
        (["10.0.0.2, 10.0.0.1"], ("10.0.0.2", 0)),
        ([f"{CLIENT}, unknown, 10.0.0.1"], ("10.0.0.1", 0)),
        ([f"{CLIENT}, , 10.0.0.1"], ("10.0.0.1", 0)),
        ([f"{CLIENT}, 10.0.0.1,"], None),
        (["unknown"], None),
        ([""], None),
        (["unix:"], None),
        ([",".join([CLIENT] + ["10.0.0.1"] * 31)], (CLIENT, 0)),
        ([",".join([CLIENT] + ["10.0.0.2"] + ["10.0.0.1"] * 31)], ("10.0.0.2", 0)),
    ],
)
def test_the_client_is_the_first_from_the_right_that_is_no_trusted_proxy(
    values: list[str], client: tuple[str, int] | None
) -> None:
    assert client_of(*values) == client


entries = st.one_of(
    st.ip_addresses().map(str),
    st.sampled_from(["unknown", "", '"', "10.0.0.1", "10.9.9.9:80", "unix:", "2001:db8::7", 'for="']),
    st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=12),
)


@pytest.mark.slow
@given(forged=st.lists(entries, max_size=6))
def test_what_a_client_writes_before_never_counts(forged: list[str]) -> None:
    assert client_of(*forged, f"{CLIENT}, 10.0.0.1") == (CLIENT, 0)
    assert client_of(",".join([*forged, CLIENT, "10.0.0.1"])) == (CLIENT, 0)
    element = f'for="{CLIENT}:80";proto=https'
    assert read(f"Forwarded: {','.join([*forged, element, 'for=10.0.0.1'])}") == Forwarded(
        (CLIENT, 80), scheme="https"
    )


def test_a_long_list_is_not_looked_at_as_a_whole() -> None:
    assert client_of("10.0.0.1," * 100_000 + "10.0.0.2") == ("10.0.0.1", 0)


# X-Forwarded-Proto, -Host, -Port and -Prefix


def test_each_field_says_its_part() -> None:
    assert read(
        f"X-Forwarded-For: {CLIENT}",
        "x-forwarded-proto: HTTPS",
        "X-FORWARDED-HOST: Example.org:8443",
        "X-Forwarded-Port: 443",
        "X-Forwarded-Prefix: /caf%C3%A9/",
    ) == Forwarded((CLIENT, 0), "https", "example.org", 8443, "/café")


@each_case(
    ("lines", "scheme"),
    [
        (["X-Forwarded-Proto: https"], "https"),
        (["X-Forwarded-Proto: wss"], "https"),
        (["X-Forwarded-Proto: ws"], "http"),
        (["X-Forwarded-Proto: http, https"], "https"),  # without addresses, the nearest proxy's
        (["X-Forwarded-For: 203.0.113.7, 10.0.0.1", "X-Forwarded-Proto: https, http"], "https"),
        (["X-Forwarded-For: 203.0.113.7, 10.0.0.1", "X-Forwarded-Proto: http, https, http"], "https"),
        (["X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: http", "X-Forwarded-Proto: https"], "https"),
        (["X-Forwarded-For: 203.0.113.7, 10.0.0.2, 10.0.0.1", "X-Forwarded-Proto: http, https"], "https"),
        (["X-Forwarded-For: 203.0.113.7, 10.0.0.1", "X-Forwarded-Proto: https"], "https"),
        (["X-Forwarded-Proto: gopher"], None),
        (["X-Forwarded-Proto: "], None),
    ],
)  # fmt: skip
def test_of_several_values_the_one_of_the_clients_proxy_counts(lines: list[str], scheme: str | None) -> None:
    forwarded = read(*lines)
    assert forwarded is not None
    assert forwarded.scheme == scheme


@each_case(
    ("value", "host", "port"),
    [
        ("example.org", "example.org", None),
        ("[2001:db8::1]:80", "[2001:db8::1]", 80),
        ("example.org:0", None, None),
        ("example.org:99999", None, None),
        ("example.org/path", None, None),
        ("user@example.org", None, None),
        ("example.org\\x", None, None),
        ("exämple.org", None, None),
        ("a..b", None, None),
        ("b" * 64, None, None),
        ("b" * 63 + ".c.:80", "b" * 63 + ".c.", 80),
        ("", None, None),
    ],
)
def test_a_malformed_host_is_none(value: str, host: str | None, port: int | None) -> None:
    for line in (f"X-Forwarded-Host: {value}", f'Forwarded: host="{value}"'):
        forwarded = read(line)
        assert forwarded is not None
        assert (forwarded.host, forwarded.port) == (host, port)


@each_case(("value", "port"), [("8443", 8443), ("0", None), ("65536", None), ("x", None), ("²", None)])
def test_a_malformed_port_is_none(value: str, port: int | None) -> None:
    assert read(f"X-Forwarded-Port: {value}") == Forwarded(port=port)


@each_case(("text", "path"), [("/", ""), ("/app", "/app"), ("/a/b%20c/", "/a/b c"), ("/~x", "/~x")])
def test_a_root_path_is_decoded(text: str, path: str) -> None:
    assert parse_root_path(text) == path
    assert read(f"X-Forwarded-Prefix: {text}") == Forwarded(prefix=path)


@each_case(
    "text",
    [
        "",
        "app",
        "//evil.example",
        "/%2Fevil.example",
        "/%5Cevil.example",
        "/\\evil.example",
        "/a//b",
        "/a/../b",
        "/..",
        "/%2e%2e/b",
        "/a?b",
        "/a%3Fb",
        "/a#b",
        "/a b",
        "/%zz",
        "/%ff",
        "/%00",
        "/%0d%0aSet-Cookie:x",
    ],
)
def test_a_root_path_that_would_lead_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="root path"):
        parse_root_path(text)
    assert read(f"X-Forwarded-Prefix: {text}") == Forwarded()


def test_a_very_long_prefix_is_ignored() -> None:
    assert read(f"X-Forwarded-Prefix: /{'a' * 2000}") == Forwarded()


# Forwarded


@each_case(
    ("value", "said"),
    [
        (f"for={CLIENT}", Forwarded((CLIENT, 0))),
        (f'For="{CLIENT}:4711";Proto=https;Host="Example.org:8443"',
         Forwarded((CLIENT, 4711), "https", "example.org", 8443)),
        (f"for={CLIENT}:4711;host=example.org:80", Forwarded((CLIENT, 4711), None, "example.org", 80)),
        ('for="[2001:db9::1]:_x";by=_me;proto=http', Forwarded(("2001:db9::1", 0), "http")),
        (f"for={CLIENT};proto=https , for=10.0.0.1;proto=http", Forwarded((CLIENT, 0), "https")),
        (f"for={CLIENT}, for=10.0.0.1;proto=https;host=a", Forwarded((CLIENT, 0), "https", "a")),
        (f"for=1.1.1.1;proto=http, for={CLIENT};host=a;", Forwarded((CLIENT, 0), None, "a")),
        ("for=1.1.1.1, for=unknown;proto=https", Forwarded(None, "https")),
        ("for=1.1.1.1, for=_hidden;proto=https, for=10.0.0.1", Forwarded(("10.0.0.1", 0), "https")),
        ("for=1.1.1.1, proto=https", Forwarded(None, "https")),
        (f"for={CLIENT};for=1.1.1.1", Forwarded()),
        (f"for={CLIENT};proto", Forwarded()),
        (f'for="{CLIENT}', Forwarded()),
        (f"for = {CLIENT}", Forwarded()),
        (f'for={CLIENT};secret="a,b"', Forwarded()),
        ("", Forwarded()),
    ],
)  # fmt: skip
def test_elements_are_read_from_the_right(value: str, said: Forwarded) -> None:
    assert read(f"Forwarded: {value}") == said


def test_several_fields_are_joined_in_order() -> None:
    assert read(
        "Forwarded: for=1.1.1.1", f"Forwarded: for={CLIENT};proto=https", "Forwarded: for=10.0.0.1"
    ) == (Forwarded((CLIENT, 0), "https"))


# Both


@each_case("name", sorted(set(FORWARDED_HEADERS) - {"forwarded"}))
def test_forwarded_never_counts_beside_one_of_the_other_fields(name: str) -> None:
    said = read("Forwarded: for=1.1.1.1;proto=https;host=evil.example", f"{name}: ?")
    assert said == Forwarded()


def test_only_the_fields_that_are_named_count() -> None:
    lines = (
        f"X-Forwarded-For: {CLIENT}",
        "X-Forwarded-Host: evil.example",
        "Forwarded: for=1.1.1.1;proto=https",
    )
    named = ForwardedReader(PROXIES, ["X-Forwarded-For", "X-Forwarded-Proto"])
    assert read(*lines, reader=named) == Forwarded((CLIENT, 0))
    assert read(*lines, reader=ForwardedReader(PROXIES, ["forwarded"])) == Forwarded(("1.1.1.1", 0), "https")
    assert read(*lines, reader=ForwardedReader(PROXIES, [])) is None


def test_names_of_other_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="'x-real-ip'"):
        ForwardedReader(PROXIES, ["X-Real-IP"])
    with pytest.raises(TypeError, match="not one str"):
        ForwardedReader(PROXIES, "forwarded")


field_values = st.text(
    st.sampled_from('for=host;proto,"\\ :[]10.203.7/_-%aé')
    | st.characters(codec="latin-1", exclude_categories=["Cc"]),
    max_size=60,
)


@given(fields=st.lists(st.tuples(st.sampled_from(FORWARDED_HEADERS), field_values), max_size=6))
def test_whatever_arrives_is_read_and_what_comes_out_is_safe(fields: list[tuple[str, str]]) -> None:
    said = read(*(f"{name}: {value}" for name, value in fields))
    if said is None:
        assert not fields
        return
    assert said.scheme in (None, "http", "https")
    assert said.host is None or re.fullmatch(r"[\[\]a-z0-9._~:-]+", said.host)
    assert said.port is None or 0 < said.port < 65536
    assert said.prefix in (None, "") or (said.prefix and re.match(r"/[^/\\]", said.prefix))
    assert said.client is None or re.fullmatch("[0-9a-f.:]+", said.client[0])
