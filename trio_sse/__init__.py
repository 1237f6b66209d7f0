"""A Server-Sent Events server on Trio's structured concurrency."""

from ._client_script import client_script
from ._connection import Connection
from ._decoder import EventDecoder
from ._end_reason import EndReason
from ._event import ServerSentEvent
from ._garbage_collector import tune_garbage_collector
from ._http_exception import HTTPException
from ._hub import Hub
from ._hub_statistics import HubStatistics
from ._module_metadata import set_public_module
from ._offset import read_offset
from ._queue import Overflow
from ._request import Headers, Request
from ._response import Response
from ._server import Server, ServerStatistics
from ._shared_log import Entry, Log, LogEnd, LogRefused, LogSession, LogUnavailable
from ._state import PatchFormat, State
from ._subscription import SlowConsumer, Subscription
from ._ticker import Ticker, TickerStatistics

__all__ = [
    "Connection",
    "EndReason",
    "Entry",
    "EventDecoder",
    "HTTPException",
    "Headers",
    "Hub",
    "HubStatistics",
    "Log",
    "LogEnd",
    "LogRefused",
    "LogSession",
    "LogUnavailable",
    "Overflow",
    "PatchFormat",
    "Request",
    "Response",
    "Server",
    "ServerSentEvent",
    "ServerStatistics",
    "SlowConsumer",
    "State",
    "Subscription",
    "Ticker",
    "TickerStatistics",
    "client_script",
    "read_offset",
    "tune_garbage_collector",
]

set_public_module(globals())
