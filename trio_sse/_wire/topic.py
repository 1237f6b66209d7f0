"""What may be a topic's name. Topics often carry parts of a request's path, so they are checked."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

#: The most characters that a topic's name may have.
MAX_TOPIC_LENGTH = 256

#: The most topics that one subscription may take.
MAX_TOPICS = 256


class TopicError(ValueError):
    """A topic's name, or the number of topics, is not acceptable.

    When a handler lets it pass before its stream has begun, the client is answered 400.
    """


def check_topic(topic: object) -> str:
    """Return `topic` if it is a name for one.

    Raises:
        TypeError: it is not a `str`.
        TopicError: it is empty, too long, or has characters that can't be printed.
    """
    if not isinstance(topic, str):
        raise TypeError(f"a topic must be a str, not {type(topic).__name__}")
    if not 0 < len(topic) <= MAX_TOPIC_LENGTH:
        raise TopicError(f"a topic must have 1 to {MAX_TOPIC_LENGTH} characters, not {len(topic)}")
    if not topic.isprintable():
        raise TopicError(f"a topic must have printable characters only: {topic!r}")
    return topic


def check_topics(topics: Iterable[object]) -> tuple[str, ...]:
    """Return the topics, each once, if a subscription may take them; raises what `check_topic` does."""
    given = tuple(topics)
    if len(given) == 1:
        return _check_one(check_topic(given[0]))
    checked = tuple(dict.fromkeys(check_topic(topic) for topic in given))
    if not 0 < len(checked) <= MAX_TOPICS:
        raise TopicError(f"a subscription takes 1 to {MAX_TOPICS} topics, not {len(checked)}")
    return checked


@lru_cache(maxsize=64)
def _check_one(topic: str) -> tuple[str, ...]:
    return (topic,)  # one tuple for all who subscribe to the same
