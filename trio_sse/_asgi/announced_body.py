"""The body of a response on a server that is not ours: what its head says, and what was sent of it.

A message that hypercorn refuses can leave it in a state in which it fails as a whole. So what our own server
refuses is refused before.
"""

from __future__ import annotations

from typing import final

from .types import Message, exact_bytes

# Hypercorn sends the body of a 205 as it sends others.
_WITHOUT_BODY = (204, 304)


@final
class AnnouncedBody:
    """The body of one response.

    Args:
        is_head: the request is HEAD, so none is sent.

    Attributes:
        size: the bytes that were sent.
    """

    def __init__(self, *, is_head: bool) -> None:
        self.size = 0
        self._is_sent = not is_head
        self._length: int | None = None

    def announce(self, status: int, fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Note what a head says; return its fields as they can be sent.

        Raises:
            ValueError: it has several lengths.
        """
        lengths = {int(value) for name, value in fields if name.lower() == b"content-length"}
        if len(lengths) > 1:
            raise ValueError(f"a response must have one Content-Length, not {sorted(lengths)}")
        if status in _WITHOUT_BODY:
            # As on our own server. Clients that count would close an HTTP/2 connection with all its streams.
            self._is_sent = False
            return [field for field in fields if field[0].lower() != b"content-length"]
        if lengths and self._is_sent:
            (self._length,) = lengths
        return fields

    def add(self, message: Message) -> None:
        """Count a part of the body.

        Raises:
            ValueError: the body is not as long as the head has said.
        """
        size = self.size + len(exact_bytes(message.get("body", b"")))
        goes_on = message.get("more_body", False)
        if self._length is not None and (size > self._length or not (goes_on or size == self._length)):
            raise ValueError(f"the body has {size} bytes, but the head announced {self._length}")
        self.size = size

    def forget_length(self) -> None:
        """Accept any end."""
        self._length = None

    @property
    def is_whole(self) -> bool:
        """Whether the client has all of it, though the app has not said that it ends."""
        return not self._is_sent or self._length == self.size
