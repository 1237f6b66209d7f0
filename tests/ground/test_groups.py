"""What is in an exception group."""

from __future__ import annotations

from trio_sse._groups import leaf_exceptions


def test_leaves_are_found_in_order_however_deep() -> None:
    first, second, third = ValueError("1"), KeyError("2"), OSError("3")
    group = ExceptionGroup("", [first, ExceptionGroup("", [ExceptionGroup("", [second]), third])])
    assert leaf_exceptions(group) == [first, second, third]
