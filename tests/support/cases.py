"""Many small cases in one test, where each would take less time than a test of its own."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, final

import pytest


@final
class Cases:
    """Runs all cases, whichever fail, and then fails with all that they raised; its notes name the cases.

    ::

        with Cases() as cases:
            for name, raw in MALFORMED.items():
                with cases.case(name):
                    assert is_refused(raw)
    """

    def __init__(self) -> None:
        self._count = 0
        self._errors: list[BaseException] = []

    @contextmanager
    def case(self, name: object) -> Iterator[None]:
        """Note what one case raises."""
        self._count += 1
        try:
            yield
        except (Exception, pytest.fail.Exception) as error:  # the second is no `Exception`
            error.add_note(f"in the case {name!r:.500}")
            self._errors.append(error)

    def __enter__(self) -> Cases:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None and self._errors:
            raise BaseExceptionGroup(f"{len(self._errors)} of {self._count} cases failed", self._errors)
        assert kind is not None or self._count, "there are no cases"


def each_case(names: str | Sequence[str], values: Iterable[Any]) -> Callable[[Any], Any]:
    """Run a test for each of its cases, within one test.

    It is written as `pytest.mark.parametrize` is, and may be repeated. It is for functions that take nothing
    but their case, above all for those that compute: a test of its own takes some milliseconds.
    """
    of_each = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    is_single = isinstance(names, str) and len(of_each) == 1
    rows = [dict(zip(of_each, (value,) if is_single else value, strict=True)) for value in values]

    def decorate(test: Any) -> Any:
        function, parameters = getattr(test, "_of_cases", (test, []))
        parameters = [rows, *parameters]

        @wraps(function)
        def run(*instance: object) -> None:
            with Cases() as cases:
                for chosen in itertools.product(*parameters):
                    case = {name: value for row in chosen for name, value in row.items()}
                    with cases.case(case):
                        function(*instance, **case)

        signature = inspect.signature(function)
        kept = [one for name, one in signature.parameters.items() if name == "self"]
        run.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]  # pytest reads it
        run._of_cases = function, parameters  # type: ignore[attr-defined]  # for a second `each_case`
        return run

    return decorate
