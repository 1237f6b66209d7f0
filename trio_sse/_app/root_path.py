"""The paths in the scope of an app that is served below a path: a proxy has removed its beginning.

As in uvicorn, `path` has that beginning again, and `root_path` says what it is. Frameworks route by what
follows it, and put it in front of the links that they make.
"""

from __future__ import annotations

from .._proxies.forwarded import encode_root_path
from .._transport.base import Transport


def paths_of_scope(
    transport: Transport, path: str, raw_path: bytes, root_path: str
) -> tuple[str, bytes, str]:
    """Return `path`, `raw_path` and `root_path`, of a request's path, decoded and as it was sent.

    Args:
        root_path: the server's, which counts if no proxy names one; decoded.
    """
    origin = transport.origin
    if origin is not None and origin.root_path is not None:
        root_path = origin.root_path
    if not root_path:
        return path, raw_path, root_path
    return root_path + path, encode_root_path(root_path) + raw_path, root_path
