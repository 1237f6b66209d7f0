"""The scenarios; importing this package registers all of them."""

from . import apps, connections, deadlines, endings, quart, streams, topics, websockets  # noqa: F401
