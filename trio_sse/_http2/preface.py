"""What a client of HTTP/2 sends first, before its SETTINGS frame (RFC 9113, 3.4)."""

from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
