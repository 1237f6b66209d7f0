"""What is in an exception group."""

from __future__ import annotations

from trio_sse._groups import leaf_exceptions, shallow, split

from ..support.raised import Panic, Unprintable, deep_group


def test_leaves_are_found_in_order_however_deep() -> None:
    first, second, third = ValueError("1"), KeyError("2"), OSError("3")
    group = ExceptionGroup("", [first, ExceptionGroup("", [ExceptionGroup("", [second]), third])])
    assert leaf_exceptions(group) == [first, second, third]


def test_a_group_that_is_too_deep_is_made_flat() -> None:
    deep = deep_group()
    flat = shallow(deep)
    assert isinstance(flat, ExceptionGroup)
    assert [type(error) for error in flat.exceptions] == [Unprintable]
    plain = ExceptionGroup("", [ExceptionGroup("", [ValueError()])])
    assert shallow(plain) is plain


def test_a_group_that_is_too_deep_is_split() -> None:
    first, rest = split(BaseExceptionGroup("", [deep_group(), Panic()]), Panic)
    assert isinstance(first, BaseExceptionGroup)
    assert [type(error) for error in leaf_exceptions(first)] == [Panic]
    assert isinstance(rest, BaseExceptionGroup)
    assert [type(error) for error in leaf_exceptions(rest)] == [Unprintable]


def test_what_is_not_split_stays_the_same_object() -> None:
    group = BaseExceptionGroup("", [ValueError(), Panic()])
    assert split(group, KeyError) == (None, group)
    assert split(group, BaseException) == (group, None)
