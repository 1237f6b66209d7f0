"""What an app sends for its WebSocket, as frames and close codes, and what it receives; no I/O.

The functions that take a message of the app raise `ValueError` if it is not acceptable.
"""

from __future__ import annotations

from .._asgi.client_disconnected import is_of_disconnect
from .._asgi.types import Message, exact_bytes
from .._groups import leaf_exceptions
from .._http.fields import check_raw_field, is_token
from .._http.request import Headers
from .._http.websocket_handshake import accept_head
from .._stream.closing import CLOSE_CODES as CODE_OF_REASON
from .._stream.end_reason import EndReason
from .._stream.live_stream import LiveStream
from .._websocket.receiver import NORMAL_CLOSURE, MessageReceiver
from .._wire.websocket_frames import binary_frame, text_frame
from .._wire.websocket_parser import CLOSE_CODES, Close

ABNORMAL_CLOSURE = 1006  # never sent: the connection was cut

# The close code that the client receives when a stream ends for these reasons; the app receives it, too.
_SENT_REASONS = (
    EndReason.SERVER_SHUTDOWN,
    EndReason.MAX_DURATION,
    EndReason.REVOKED,
    EndReason.EXPIRED,
    EndReason.FINISHED,
)

# Fields of the answer to a handshake that are the server's.
_OWN_FIELDS = (b"connection", b"content-length", b"transfer-encoding", b"upgrade")
_OWN_PREFIX = b"sec-websocket-"


def encode_message(message: Message) -> bytes:
    """Return the frame of a `websocket.send`."""
    data, text = message.get("bytes"), message.get("text")
    if data is not None:
        return binary_frame(exact_bytes(data))
    if text is None:
        raise ValueError("a websocket.send must have text or bytes")
    return text_frame(text)


def end_of(stream: LiveStream, receiver: MessageReceiver) -> Close:
    """Return how a WebSocket has ended, where the app has not ended it."""
    if receiver.client_close is not None:
        return receiver.client_close
    if receiver.failure is not None:
        return receiver.failure
    reason = stream.end_reason
    if reason is None or reason is EndReason.CLIENT_DISCONNECTED:
        return Close(ABNORMAL_CLOSURE, "")
    return Close(CODE_OF_REASON[reason] if reason in _SENT_REASONS else ABNORMAL_CLOSURE, reason.value)


def is_of_end(failure: BaseException) -> bool:
    """Whether the app has raised an exception because its WebSocket has ended.

    Starlette and Litestar have an exception for it, which many apps leave to the server.
    """
    errors = leaf_exceptions(failure) if isinstance(failure, BaseExceptionGroup) else [failure]
    return all(type(error).__name__ == "WebSocketDisconnect" or is_of_disconnect(error) for error in errors)


def encode_accept(headers: Headers, message: Message) -> bytes:
    """Return the head that accepts a handshake as the app wants it."""
    subprotocol = message.get("subprotocol")
    if subprotocol is not None and not is_token(subprotocol):
        raise ValueError(f"a subprotocol must be a token of ASCII letters and digits, not {subprotocol!r}")
    subprotocol = None if subprotocol is None else str.__str__(subprotocol)
    fields = []
    for name, value in message.get("headers") or ():
        name, value = bytes(name), bytes(value).strip()
        check_raw_field(name, value)
        if name.lower().startswith(_OWN_PREFIX):
            raise ValueError(f"header field {name!r} is set by the server")
        if name.lower() not in _OWN_FIELDS:
            fields.append((name, value))
    return accept_head(headers, subprotocol, fields)


def close_of(message: Message) -> Close:
    """Return what a `websocket.close` asks for."""
    code, reason = message.get("code"), message.get("reason")
    close = Close(NORMAL_CLOSURE if code is None else int(code), str(reason or ""))
    if close.code not in CLOSE_CODES:
        raise ValueError(f"a close code must be one of RFC 6455, or 3000 to 4999, not {close.code}")
    return close
