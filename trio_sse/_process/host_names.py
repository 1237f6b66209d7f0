"""Host names of TLS handshakes that Python cannot decode.

For a context with an `sni_callback`, Python decodes the name that a client asks for as ASCII. Where it
cannot, it refuses the handshake, and prints a traceback to standard error: past the program's logging, and as
often as a stranger likes. The refusal is logged as that of any other handshake, so nothing is printed.
"""

from __future__ import annotations

import ssl
import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs


def print_no_undecodable_host_names() -> None:
    """Let Python print nothing about these names. A hook that the program has set itself is left alone."""
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _print_unless_host_name


def _print_unless_host_name(unraisable: UnraisableHookArgs) -> None:
    is_decoding = isinstance(unraisable.exc_value, UnicodeDecodeError)
    if not (is_decoding and _is_of_handshake(unraisable.exc_traceback)):
        sys.__unraisablehook__(unraisable)


def _is_of_handshake(traceback: TracebackType | None) -> bool:
    """Whether an exception was raised by OpenSSL, below the standard library's own function."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_code.co_filename == ssl.__file__
