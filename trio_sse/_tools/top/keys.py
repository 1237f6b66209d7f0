"""Keys of a terminal, without waiting for the end of a line."""

from __future__ import annotations

import codecs
import os
import re
import termios
import tty
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import trio

_SEQUENCES = {
    "[A": "up",
    "OA": "up",
    "[B": "down",
    "OB": "down",
    "[C": "right",
    "OC": "right",
    "[D": "left",
    "OD": "left",
    "[5~": "page up",
    "[6~": "page down",
    "[Z": "back tab",
}
_NAMED = {"\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\b": "backspace"}

# A sequence that is known or not, a key with Alt, or a character.
_KEY = re.compile(r"\x1b(\[[0-9;]*[A-Za-z~]|O[A-Za-z])|\x1b([^\x1b])|(\x1b)|(.)", re.DOTALL)


def parse_keys(text: str) -> Iterator[str]:
    """Yield the keys in what a terminal has sent at once: a character, or a name such as `up` or `escape`."""
    for sequence, _, escape, character in _KEY.findall(text):
        if sequence:
            if name := _SEQUENCES.get(sequence):
                yield name
        elif escape:
            yield "escape"
        elif character:
            if name := _NAMED.get(character):
                yield name
            elif character.isprintable():
                yield character


@contextmanager
def single_keys(descriptor: int) -> Iterator[None]:
    """Let a terminal send each key at once and show none; Ctrl-C is still a signal."""
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


async def read_keys(descriptor: int) -> AsyncIterator[str]:
    """Yield the keys that are pressed until the terminal is closed."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        await trio.lowlevel.wait_readable(descriptor)
        data = os.read(descriptor, 1024)
        if not data:
            return
        for key in parse_keys(decoder.decode(data)):
            yield key
