"""The scenarios; importing this package registers all of them."""

from . import apps, endings, streams, topics, websockets  # noqa: F401
