from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError, replace

import pytest

from trio_sse._http.request import Headers, Request, make_request

FIELDS = ("GET", "/a?b", "/a", Headers([]), "1.1", "peer", b"body")


def test_a_request_that_is_made_fast_is_like_any_other() -> None:
    made, called = make_request(*FIELDS), Request(*FIELDS)

    assert type(made) is Request
    assert made == called
    assert hash(made) == hash(called)
    assert repr(made) == repr(called)
    assert replace(made, path="/b") == replace(called, path="/b")
    assert copy.copy(made) == made
    with pytest.raises(FrozenInstanceError):
        made.method = "POST"  # type: ignore[misc]
    assert not hasattr(made, "__dict__")
