"""JSON as its standard has it: Python's parser also takes NaN and numbers that are too large."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text, which can be sent as JSON again.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is too deep.
    """
    return json.loads(text, parse_constant=_no_number, parse_float=_finite)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number
