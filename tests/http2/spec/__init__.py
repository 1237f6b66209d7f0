"""The cases of RFC 9113 and RFC 7541, section by section, as raw frames and what a server makes of them."""

from .case import Case
from .connections import CASES as CONNECTIONS
from .flow_control import CASES as FLOW_CONTROL
from .frames import CASES as FRAMES
from .header_compression import CASES as HEADER_COMPRESSION
from .requests import CASES as REQUESTS
from .streams import CASES as STREAMS

__all__ = ["ALL_CASES", "Case"]

ALL_CASES: tuple[Case, ...] = (
    *CONNECTIONS,
    *STREAMS,
    *FRAMES,
    *FLOW_CONTROL,
    *REQUESTS,
    *HEADER_COMPRESSION,
)
