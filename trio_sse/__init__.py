"""A Server-Sent Events server on Trio's structured concurrency."""

from . import _platform  # noqa: F401  # first of all, as it says which systems there are
from ._client_script import client_script
from ._histogram import Histogram
from ._http.exceptions import HTTPException
from ._http.offset import read_offset
from ._http.request import Headers, Request
from ._http.response import Response
from ._hub.hub import Hub
from ._hub.statistics import HubStatistics
from ._hub.ticker import Ticker, TickerStatistics
from ._hub.topic_statistics import PatternStatistics, TopicStatistics
from ._log.retention import Retention
from ._module_metadata import set_public_module
from ._process.garbage_collector import tune_garbage_collector
from ._process.resources import ProcessStatistics
from ._runs.errors import RunEnded, RunFailed, RunGone, RunLimitReached, RunRestarted, RunTooLarge
from ._runs.items import RunEmitted, RunItem, RunOutcome, RunState, RunText
from ._runs.run import Run
from ._runs.runs import Runs
from ._runs.status import RunInfo, RunStatus
from ._runs.view import RunView
from ._server.server import Server
from ._server.statistics import ServerStatistics
from ._shared_log.protocol import (
    Entry,
    EventRefused,
    IdempotentSession,
    KeyedRecord,
    LeaseSession,
    Log,
    LogEnd,
    LogRefused,
    LogSession,
    LogUnavailable,
    NoticeSession,
    RenewableSession,
)
from ._state.presence import Presence
from ._state.state import State
from ._state.topic import PatchFormat
from ._state.writer import StateConflict
from ._stream.connection import Connection
from ._stream.end_reason import EndReason
from ._stream.listing import ConnectionInfo
from ._stream.statistics import StreamStatistics
from ._stream.stream_kind import StreamKind
from ._subscription.queue import Overflow
from ._subscription.subscription import SlowConsumer, Subscription
from ._wire.decoder import EventDecoder
from ._wire.event import ServerSentEvent

__all__ = [
    "Connection",
    "ConnectionInfo",
    "EndReason",
    "Entry",
    "EventDecoder",
    "EventRefused",
    "HTTPException",
    "Headers",
    "Histogram",
    "Hub",
    "HubStatistics",
    "IdempotentSession",
    "KeyedRecord",
    "LeaseSession",
    "Log",
    "LogEnd",
    "LogRefused",
    "LogSession",
    "LogUnavailable",
    "NoticeSession",
    "Overflow",
    "PatchFormat",
    "PatternStatistics",
    "Presence",
    "ProcessStatistics",
    "RenewableSession",
    "Request",
    "Response",
    "Retention",
    "Run",
    "RunEmitted",
    "RunEnded",
    "RunFailed",
    "RunGone",
    "RunInfo",
    "RunItem",
    "RunLimitReached",
    "RunOutcome",
    "RunRestarted",
    "RunState",
    "RunStatus",
    "RunText",
    "RunTooLarge",
    "RunView",
    "Runs",
    "Server",
    "ServerSentEvent",
    "ServerStatistics",
    "SlowConsumer",
    "State",
    "StateConflict",
    "StreamKind",
    "StreamStatistics",
    "Subscription",
    "Ticker",
    "TickerStatistics",
    "TopicStatistics",
    "client_script",
    "read_offset",
    "tune_garbage_collector",
]

set_public_module(globals())
