"""A run's texts in pieces whose boundaries follow from the text alone.

A viewer reads a text in pieces that depend on when it reads. But clients of these protocols number what they
receive, and resume after a number. So a text is split again, at words: the same text always has the same
pieces, on every node, live and afterwards. What may still grow into a longer word is held back until the next
piece, an event or the end comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import final

from .._runs.items import RunItem, RunState, RunText
from .._runs.protocol import MAIN_TEXT
from .._wire.json_text import join_surrogates
from ._numbers import LeftOut

_LONGEST_WORD = 24

# A word with the blanks before it; or, of scripts that have no blanks, one character; or many blanks.
_PIECE = re.compile(
    rf"\s{{0,16}}(?:(?P<whole>[\u2e80-\U0010ffff])|[^\s\u2e80-\U0010ffff]{{1,{_LONGEST_WORD}}})|\s{{16}}"
)


@final
class PieceSplitter:
    """Splits the texts among the items of a run, which come in order.

    Args:
        further: whether texts besides the main one are shown; otherwise they are left out.

    Attributes:
        further_texts: their names, in the order in which they began.
    """

    def __init__(self, *, further: bool = False) -> None:
        self.further_texts: list[str] = []
        self._shows_further = further
        self._held: dict[str, str] = {}  # by name

    def split(self, item: RunItem | LeftOut) -> Iterator[RunItem | LeftOut]:
        """Yield what is certain now."""
        if isinstance(item, RunText):
            if self._shows(item.name):
                text = join_surrogates(self._held.get(item.name, "") + item.text)
                pieces = list(_certain_pieces(text))
                self._held[item.name] = text[sum(map(len, pieces)) :]
                for piece in pieces:
                    yield replace(item, text=piece)
        elif isinstance(item, RunState):  # it has no place among the others
            yield item
        elif isinstance(item, LeftOut):  # an earlier attempt may have gone on with the word
            yield item
            yield from self._rest()
        else:
            yield from self._rest()
            yield item

    def _rest(self) -> Iterator[RunText]:
        for name, text in self._held.items():
            if text:
                yield RunText(text, name, "")
        self._held.clear()

    def _shows(self, name: str) -> bool:
        if name == MAIN_TEXT:
            return True
        if self._shows_further and name not in self.further_texts:
            self.further_texts.append(name)
        return self._shows_further


def _certain_pieces(text: str) -> Iterator[str]:
    """Yield the pieces that a text begins with, whatever follows it."""
    for match in _PIECE.finditer(text):
        if match.end() == len(text) and (match["whole"] is None or _is_half(match["whole"])):
            break  # what follows decides
        yield match[0]


def _is_half(character: str) -> bool:
    """Whether a character is the first half of one, so that the other half may follow."""
    return "\ud800" <= character <= "\udbff"
