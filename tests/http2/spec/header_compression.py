"""Header compression: RFC 7541, and RFC 9113, 4.3.1."""

from __future__ import annotations

from .case import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GET,
    HEADERS,
    WHOLE,
    Case,
    block,
    frame,
    request,
    setting,
)

GOAWAY = "GOAWAY COMPRESSION_ERROR"
ONE = block(GET)


def blocks(*hexadecimal: str) -> tuple[bytes]:
    """Return requests with these header blocks, on the streams 1, 3, 5."""
    return (
        b"".join(
            [
                frame(HEADERS, WHOLE, 2 * number + 1, bytes.fromhex(text))
                for number, text in enumerate(hexadecimal)
            ]
        ),
    )


def after(hexadecimal: str) -> tuple[bytes]:
    """Return a request with more bytes after its header block."""
    return blocks(ONE.hex() + hexadecimal)


ALL_OK = "1: 200; 3: 200; 5: 404"  # the last one asks for /index.html

CASES = (
    # The examples of appendix C, with the host's name that they have
    Case(
        "RFC 7541, C.3",
        "requests without Huffman's code",
        blocks(
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ),
        ALL_OK,
    ),
    Case(
        "RFC 7541, C.4",
        "requests with Huffman's code",
        blocks(
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ),
        ALL_OK,
    ),
    Case(
        "RFC 7541, 2.3.2",
        "the newest entry is the first",
        blocks(
            ONE.hex() + "400178017940017a0179",
            "be" + ONE.hex(),
        ),
        "1: 200; 3: PROTOCOL_ERROR",
    ),
    # Indices
    Case("RFC 7541, 2.3.3", "an index beyond both tables", after("be"), GOAWAY),
    Case("RFC 7541, 2.3.3", "a name's index beyond both tables", after("7e0178"), GOAWAY),
    Case("RFC 7541, 2.3.3", "a name's index beyond both tables, not indexed", after("0f2f0178"), GOAWAY),
    Case("RFC 7541, 2.3.3", "a very large index", after("ffffffff0f"), GOAWAY),
    Case("RFC 7541, 6.1", "the index 0", after("80"), GOAWAY),
    # Eviction and sizes
    Case("RFC 7541, 4.2", "a smaller table at the start of a block", blocks("20" + ONE.hex()), "1: 200"),
    Case("RFC 7541, 4.2", "two changes of the table's size", blocks("203fe11f" + ONE.hex()), "1: 200"),
    Case("RFC 7541, 4.2", "three changes of the table's size", blocks("202020" + ONE.hex()), GOAWAY),
    Case("RFC 7541, 4.2", "a change of the table's size at the end of a block", after("3f01"), GOAWAY),
    Case(
        "RFC 7541, 4.3",
        "a change of the table's size evicts its entries",
        blocks(
            ONE.hex() + "4001780179",
            "20" + ONE.hex() + "be",
        ),
        GOAWAY,
    ),
    Case(
        "RFC 7541, 4.4",
        "an entry that is larger than the table empties it",
        blocks(
            ONE.hex() + "4001780179",
            ONE.hex() + "4001797f811f" + "7a" * 4096,
            ONE.hex() + "be",
        ),
        GOAWAY,
    ),
    Case("RFC 7541, 6.3", "a table of 4,096 bytes", blocks("3fe11f" + ONE.hex()), "1: 200"),
    Case("RFC 7541, 6.3", "a table that is larger than we allow", blocks("3fe21f" + ONE.hex()), GOAWAY),
    Case("RFC 7541, 6.3", "a table of nearly 2^28 bytes", blocks("3fffffff7f" + ONE.hex()), GOAWAY),
    # Integers
    Case("RFC 7541, 5.1", "an integer that is cut", blocks("ff"), GOAWAY),
    Case(
        "RFC 7541, 5.1",
        "an integer with a long way to say 1",
        after("0001787f80808000" + "79" * 127),
        "1: 200",
    ),
    Case("RFC 7541, 5.1", "an integer without end", after("ff" + "ff" * 100), GOAWAY),
    Case("RFC 7541, 5.1", "an integer that is too large", after("0001787fffffffffff0f"), GOAWAY),
    # Strings
    Case("RFC 7541, 5.2", "a string that is cut", after("000178057979"), GOAWAY),
    Case("RFC 7541, 5.2", "a name that is cut", after("000578"), GOAWAY),
    Case("RFC 7541, 5.2", "a field without its value", after("000178"), GOAWAY),
    Case("RFC 7541, 5.2", "an empty value", after("00017800"), "1: 200"),
    Case("RFC 7541, 5.2", "an empty value in Huffman's code", after("00017880"), "1: 200"),
    Case(
        "RFC 7541, 5.2", "Huffman's code padded with 8 bits", after("0085f2b24a84ff874951fffffffa7f"), GOAWAY
    ),
    Case("RFC 7541, 5.2", "Huffman's code padded with zeros", after("0085f2b24a84ff83497f00"), GOAWAY),
    Case(
        "RFC 7541, 5.2",
        "the end of string in Huffman's code",
        after("0085f2b24a84ff8749509fffffffff"),
        GOAWAY,
    ),
    # Representations
    Case(
        "RFC 7541, 6.2.1",
        "a literal that is indexed",
        blocks(
            ONE.hex() + "4001780179",
            ONE.hex() + "be",
        ),
        "1: 200; 3: 200",
    ),
    Case(
        "RFC 7541, 6.2.2",
        "a literal that is not indexed",
        blocks(
            ONE.hex() + "0001780179",
            ONE.hex() + "be",
        ),
        GOAWAY,
    ),
    Case(
        "RFC 7541, 6.2.3",
        "a literal that is never indexed",
        blocks(
            ONE.hex() + "1001780179",
            ONE.hex() + "be",
        ),
        GOAWAY,
    ),
    Case(
        "RFC 7541, 2.2",
        "requests and responses have tables of their own",
        blocks(
            ONE.hex(),
            ONE.hex() + "be",
        ),
        GOAWAY,
    ),
    Case(
        "RFC 7541, 2.2",
        "a malformed request counts for the table",
        blocks(
            ONE.hex() + "4001580179",
            ONE.hex() + "0001780179",
            ONE.hex(),
        ),
        "1: PROTOCOL_ERROR; 3: 200; 5: 200",
    ),
    Case(
        "4.3",
        "a block that is cut in its frame's middle",
        (frame(HEADERS, END_STREAM, 1, ONE + b"\x40\x01") + frame(CONTINUATION, END_HEADERS, 1, b"x\x01y"),),
        "1: 200",
    ),
    # Our own blocks, when the client allows a smaller table
    Case(
        "4.3.1",
        "a table of no bytes for responses",
        (setting((1, 0)) + request(1) + request(3),),
        "1: 200; 3: 200",
    ),
    Case(
        "4.3.1",
        "a table of 100 bytes, then of 4,096",
        (setting((1, 100)) + request(1) + setting((1, 4096)) + request(3),),
        "1: 200; 3: 200",
    ),
)
