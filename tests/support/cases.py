"""Many small cases in one test, where each would take less time than a test of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final


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
        self._errors: list[Exception] = []

    @contextmanager
    def case(self, name: object) -> Iterator[None]:
        """Note what one case raises."""
        self._count += 1
        try:
            yield
        except Exception as error:
            error.add_note(f"in the case {name!r}")
            self._errors.append(error)

    def __enter__(self) -> Cases:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None and self._errors:
            raise ExceptionGroup(f"{len(self._errors)} of {self._count} cases failed", self._errors)
        assert kind is not None or self._count, "there are no cases"
