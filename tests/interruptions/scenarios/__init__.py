"""The scenarios; importing this package registers all of them."""

from . import (  # noqa: F401
    apps,
    client,
    connections,
    deadlines,
    endings,
    nodes,
    quart,
    runs,
    streams,
    topics,
    websockets,
)
