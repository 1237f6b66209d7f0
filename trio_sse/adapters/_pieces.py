"""A run's main text in pieces whose boundaries follow from the text alone.

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

_LONGEST_WORD = 24

# A word with the blanks before it; or, of scripts that have no blanks, one character; or many blanks.
_PIECE = re.compile(
    rf"\s{{0,16}}(?:(?P<whole>[\u2e80-\U0010ffff])|[^\s\u2e80-\U0010ffff]{{1,{_LONGEST_WORD}}})|\s{{16}}"
)


_HALF = re.compile("[\ud800-\udbff]")


@final
class PieceSplitter:
    """Splits the main text among the items of a run, which come in order; other texts are left out."""

    def __init__(self) -> None:
        self._held = ""

    def split(self, item: RunItem) -> Iterator[RunItem]:
        """Yield what is certain now."""
        if isinstance(item, RunText):
            if item.name == MAIN_TEXT:
                self._held = _with_pairs_joined(self._held + item.text)
                for piece in self._take():
                    yield replace(item, text=piece)
        elif isinstance(item, RunState):  # it has no place among the others
            yield item
        else:
            if self._held:
                yield RunText(self._held, MAIN_TEXT, item.cursor)
                self._held = ""
            yield item

    def _take(self) -> Iterator[str]:
        text, end = self._held, 0
        for match in _PIECE.finditer(text):
            if match.end() == len(text) and (match["whole"] is None or _is_half(match["whole"])):
                break  # what follows decides
            end = match.end()
            yield match[0]
        self._held = text[end:]


def _is_half(character: str) -> bool:
    """Whether a character is the first half of one, so that the other half may follow."""
    return "\ud800" <= character <= "\udbff"


def _with_pairs_joined(text: str) -> str:
    """Return a text in which halves of characters that belong together are one: pieces may split them."""
    if _HALF.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
