"""The names of topics. They often contain parts of a request's path, so they are checked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice

#: The most characters that a topic's name may have.
MAX_TOPIC_LENGTH = 256

#: The most topics of one subscription.
MAX_TOPICS = 256

# Control characters, ends of lines and paragraphs, the two characters that override the direction of text
# (UAX #9), and surrogates, which UTF-8 cannot encode. Whatever else `str.isprintable` refuses is used in
# names: joiners, marks and spaces of many scripts, and characters newer than this Python's Unicode, which
# other nodes may know.
_HARMFUL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202d\u202e\ud800-\udfff]")

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
        TopicError: it is empty, too long, or has control characters, line ends or lone surrogates.
    """
    if not isinstance(topic, str):
        raise TypeError(f"a topic must be a str, not {type(topic).__name__}")
    if type(topic) is not str:  # a subclass, such as an enum, may compare itself differently
        topic = str.__str__(topic)
    if not 0 < len(topic) <= MAX_TOPIC_LENGTH:
        raise TopicError(f"a topic must have 1 to {MAX_TOPIC_LENGTH} characters, not {len(topic)}")
    if not topic.isprintable() and (harmful := harmful_character(topic)) is not None:
        raise TopicError(f"a topic must not have control characters or the like: U+{ord(harmful):04X}")
    return topic


def harmful_character(text: str) -> str | None:
    """Return the first character of a text that no topic may have, such as a control character."""
    if text.isprintable():  # as most are
        return None
    found = _HARMFUL.search(text)
    return None if found is None else found[0]


def check_topics(topics: Iterable[object]) -> tuple[str, ...]:
    """Return the topics without duplicates, if one subscription may have them.

    Raises:
        TypeError, TopicError: as `check_topic` does, or there are none or too many.
    """
    if isinstance(topics, tuple) and len(topics) == 1:  # as in most calls
        topic = topics[0]
        return _check_one(topic if type(topic) is str else check_topic(topic))
    asked = tuple(islice(topics, _MOST_NAMES + 1))
    if len(asked) > _MOST_NAMES:  # counted before any name is checked, which takes longer
        raise TopicError(f"a subscription has 1 to {MAX_TOPICS} topics, not more than {_MOST_NAMES}")
    checked = tuple(dict.fromkeys(check_topic(topic) for topic in asked))
    if not 0 < len(checked) <= MAX_TOPICS:
        raise TopicError(f"a subscription has 1 to {MAX_TOPICS} topics, not {len(checked)}")
    return checked


@lru_cache(maxsize=64)
def _check_one(topic: str) -> tuple[str, ...]:
    return (check_topic(topic),)  # one tuple for all subscriptions to the topic
