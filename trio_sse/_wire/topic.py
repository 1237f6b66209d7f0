"""The names of topics. They often contain parts of a request's path, so they are checked."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import islice

#: The most characters that a topic's name may have.
MAX_TOPIC_LENGTH = 256

#: The most topics of one subscription.
MAX_TOPICS = 256

# The most names that are looked at for one subscription, with repetitions. A client may send many more.
_MOST_NAMES = 4 * MAX_TOPICS


class TopicError(ValueError):
    """A topic's name, or the number of topics, is not acceptable.

    If a handler raises it before its stream has started, the client receives a 400.
    """


def check_topic(topic: object) -> str:
    """Return `topic` if it is acceptable as a name.

    Raises:
        TypeError: it is not a `str`.
        TopicError: it is empty, too long, or has characters that are not printable.
    """
    if not isinstance(topic, str):
        raise TypeError(f"a topic must be a str, not {type(topic).__name__}")
    if type(topic) is not str:  # a subclass, such as an enum, may compare itself differently
        topic = str.__str__(topic)
    if not 0 < len(topic) <= MAX_TOPIC_LENGTH:
        raise TopicError(f"a topic must have 1 to {MAX_TOPIC_LENGTH} characters, not {len(topic)}")
    if not topic.isprintable():
        raise TopicError(f"a topic must have printable characters only: {topic!r}")
    return topic


def check_topics(topics: Iterable[object]) -> tuple[str, ...]:
    """Return the topics without duplicates, if one subscription may have them.

    Raises:
        TypeError, TopicError: as `check_topic` does, or there are none or too many.
    """
    if isinstance(topics, tuple) and len(topics) == 1:  # as in most calls
        return _check_one(check_topic(topics[0]))
    asked = tuple(islice(topics, _MOST_NAMES + 1))
    if len(asked) > _MOST_NAMES:  # counted before any name is checked, which takes longer
        raise TopicError(f"a subscription has 1 to {MAX_TOPICS} topics, not more than {_MOST_NAMES}")
    checked = tuple(dict.fromkeys(check_topic(topic) for topic in asked))
    if not 0 < len(checked) <= MAX_TOPICS:
        raise TopicError(f"a subscription has 1 to {MAX_TOPICS} topics, not {len(checked)}")
    return checked


@lru_cache(maxsize=64)
def _check_one(topic: str) -> tuple[str, ...]:
    return (topic,)  # one tuple for all subscriptions to the topic
