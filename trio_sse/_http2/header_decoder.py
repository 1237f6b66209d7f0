"""Decompression of the header blocks of one connection, by hpack, within bounds (RFC 7541)."""

from __future__ import annotations

import re
from typing import cast, final

from .error_code import ConnectionFault, ErrorCode
from .limits import LIMITS, Http2Limits

# RFC 7541, 4.2: of several changes of the table's size between two blocks, the smallest and the last one
# suffice. hpack would accept thousands, at some microseconds each.
_TOO_MANY_UPDATES = re.compile(rb"(?:[\x20-\x3e]|\x3f[\x80-\xff]*[\x00-\x7f]){3}")


@final
class HeaderDecoder:
    """Decodes all header blocks of a connection, in order, also those of streams that are refused."""

    __slots__ = ("_decoder", "_error", "_oversized")

    def __init__(self, limits: Http2Limits = LIMITS) -> None:
        import hpack  # the extra

        self._decoder = hpack.Decoder(limits.header_list)
        self._error, self._oversized = hpack.HPACKError, hpack.OversizedHeaderListError

    def decode(self, block: bytes) -> list[tuple[bytes, bytes]]:
        """Return the fields of a whole header block.

        Raises:
            ConnectionFault: COMPRESSION_ERROR, or ENHANCE_YOUR_CALM if the list is too large; the state of
                the compression is lost in both cases.
        """
        if _TOO_MANY_UPDATES.match(block):
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "the header table's size changes too often")
        try:
            fields = self._decoder.decode(block, raw=True)
        except self._oversized:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header list is too large") from None
        except self._error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a header block is malformed") from None
        return cast("list[tuple[bytes, bytes]]", fields)
