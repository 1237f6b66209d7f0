"""Public names report the public module that they are imported from, so that files can move.

Tracebacks, `pickle` and reference documentation show `trio_sse.Hub`, whatever private file defines it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import FunctionType


def set_public_module(namespace: Mapping[str, object]) -> None:
    """Set `__module__` of the classes and functions in a public module's `__all__` to that module's name.

    Args:
        namespace: the module's `globals()`.
    """
    module, names = namespace["__name__"], namespace["__all__"]
    assert isinstance(module, str)
    assert isinstance(names, list)
    for name in names:
        value = namespace[name]
        if isinstance(value, type | FunctionType):
            value.__module__ = module
