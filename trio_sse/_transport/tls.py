"""A socket under TLS that is still written to without waiting.

`ssl.SSLObject` encrypts into memory, so a direct write costs one encryption and one `send`. Trio's
`SSLStream` can only be written to by a task that waits, which costs a task switch for each delivery.

Encryption cannot be undone: once encrypted, bytes must be sent, in order, or the connection is lost. And
ciphertext belongs to one client, while all clients share the bytes of an event. So a long payload is
encrypted as the socket takes it, one record at a time. Of what a slow client has not taken, `pending` is what
is not encrypted yet, which may be empty, and `_encrypted` is the record that goes before it.

OpenSSL's memory buffers never shrink. So all connections of a call to serve share the one that they write
to: what a session writes to it is taken out in the same step, before any other session is used.

A broadcast encrypts for several clients, and then sends to them (`begin_send`, `flush_nowait`). In turns,
OpenSSL and the kernel would displace each other from the processor's caches, which takes 5 % more time.

An `ssl.SSLSocket`, which sends by itself, takes 5 % less time. But after sending half of a record it hides
from write deadlines that the peer takes bytes. And it breaks the connection if the peer asks for new keys
at that moment, because OpenSSL cannot answer in the middle of a record.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import NoReturn, final

import trio

from .._groups import split_failure
from .._logger import get_logger
from .base import RECEIVE_SIZE, HandleState, not_owned
from .socket import SocketTransport, Watcher

logger = get_logger("trio_sse.server")


@final
class _NoTLS:
    """What a handle has instead of a session once it owns none; it refuses as a broken one does."""

    def read(self, length: int) -> NoReturn:
        raise ssl.SSLError("the handle owns no session")

    def write(self, data: bytes | memoryview) -> NoReturn:
        raise ssl.SSLError("the handle owns no session")

    def do_handshake(self) -> NoReturn:
        raise ssl.SSLError("the handle owns no session")

    def unwrap(self) -> NoReturn:
        raise ssl.SSLError("the handle owns no session")


_NO_TLS = _NoTLS()

# What OpenSSL may have to say to a peer that takes no bytes. It says a few bytes to each of its messages.
_MAX_ANSWERS = 16 * 1024

# How much is encrypted at once, as one record (RFC 8446, 5.1); a client that takes nothing holds so much.
_RECORD_BYTES = 16 * 1024

# After so many records, a task goes on, so that a fast client of a large event does not keep others waiting.
_RECORDS_PER_CALL = 16


def check_server_context(context: ssl.SSLContext) -> None:
    """Check that connections can be accepted with a context.

    Raises:
        ValueError: it is a client's.
    """
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    except (ssl.SSLError, ValueError) as error:  # the latter since Python 3.14
        raise ValueError(
            "ssl_context must be a server's, such as ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)"
        ) from error


@final
class TLSTransport(SocketTransport):
    """A `SocketTransport` that encrypts. Call `handshake` before anything else.

    Args:
        outgoing: where OpenSSL puts what is to be sent; other connections of the same thread may share it.
    """

    __slots__ = ("_encrypted", "_incoming", "_outgoing", "_received", "_tls")

    def __init__(
        self,
        connected: socket.socket,
        address: object,
        context: ssl.SSLContext,
        outgoing: ssl.MemoryBIO,
        watcher: Watcher | None = None,
    ) -> None:
        super().__init__(connected, address, watcher)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = outgoing
        self._encrypted: bytes | memoryview = b""  # to be sent before what is pending
        self._received = b""  # decrypted, but not yet received by anybody
        self._tls: ssl.SSLObject | _NoTLS = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def _move_to(self, new: SocketTransport) -> None:
        assert isinstance(new, TLSTransport)
        super()._move_to(new)
        new._tls, self._tls = self._tls, _NO_TLS
        new._incoming, new._outgoing = self._incoming, self._outgoing
        new._received, self._received = self._received, b""
        new._encrypted, self._encrypted = self._encrypted, b""

    @property
    def tls_session(self) -> ssl.SSLObject | None:
        return self._tls if isinstance(self._tls, ssl.SSLObject) else None

    @property
    def is_secure(self) -> bool:
        origin = self.origin
        return origin is None or origin.is_secure is not False

    async def handshake(self) -> None:
        """Perform the TLS handshake.

        Raises:
            trio.BrokenResourceError: it failed; the transport is only fit to be closed.
        """
        is_done = False
        while not is_done:
            try:
                self._tls.do_handshake()
                is_done = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                self._send_encrypted(self._outgoing.read(), 0)  # the alert, if there is one
                raise trio.BrokenResourceError(f"the TLS handshake failed: {error.reason}") from error
            except BaseException:  # of the application's own callbacks
                self._outgoing.read()
                raise
            if flight := self._outgoing.read():
                self._send_encrypted(flight, trio.current_time())
            while self.pending is not None:
                await self.flush_some()
            if not is_done:
                await self._receive_incoming()

    async def _receive_incoming(self) -> None:
        self._feed(await super().receive_some())

    def _feed(self, encrypted: bytes) -> None:
        if encrypted:
            self._incoming.write(encrypted)
        elif self._incoming.eof:
            raise trio.BrokenResourceError("the peer has closed the connection")
        else:
            self._incoming.write_eof()

    # Writing

    def send_nowait(self, payload: bytes, events: int, now: float) -> bool:
        self.events_sent += events
        self.bytes_sent += len(payload)
        if len(payload) > _RECORD_BYTES:
            self.pending = payload
            return self._send_some(now)
        try:
            self._tls.write(payload)
        except BaseException as failure:
            self.pending = payload
            return self._break(failure)
        encrypted = self._outgoing.read()
        try:  # inlined `_send_encrypted`: every delivery ends here, and a call would add to its cost
            sent = self.socket.send(encrypted)
        except OSError as error:
            return self._keep_encrypted(encrypted, error)
        self.written_at = now
        if sent == len(encrypted):
            return True
        self._encrypted, self.pending = memoryview(encrypted)[sent:], b""
        return False

    def begin_send(self, payload: bytes, events: int, now: float) -> bool:
        if len(payload) > _RECORD_BYTES:
            return self.send_nowait(payload, events, now)
        self.events_sent += events
        self.bytes_sent += len(payload)
        try:
            self._tls.write(payload)
        except ssl.SSLError:
            self._outgoing.read()
            self._is_broken = True
            self.pending = payload
            return False
        self._encrypted, self.pending = self._outgoing.read(), b""
        return False

    def flush_nowait(self, now: float) -> None:
        if self.pending is None or self._is_broken:
            return
        if self.pending:
            self._send_some(now)
            return
        # What `begin_send` has left: this is as hot as `send_nowait`.
        encrypted = self._encrypted
        try:
            sent = self.socket.send(encrypted)
        except OSError as error:
            self._keep_encrypted(encrypted, error)
            return
        self.written_at = now
        if sent == len(encrypted):
            self._encrypted, self.pending = b"", None
        else:
            self._encrypted = memoryview(encrypted)[sent:]

    def _send_some(self, now: float) -> bool:
        """Encrypt and send what is pending, as far as the socket takes it; return whether nothing is left."""
        for _ in range(_RECORDS_PER_CALL):
            if self._encrypted and not self._send_encrypted(self._encrypted, now):
                return False
            if not self.pending:
                self.pending = None
                return True
            rest = memoryview(self.pending)
            try:
                self._tls.write(rest[:_RECORD_BYTES])
            except BaseException as failure:
                return self._break(failure)
            self._encrypted = self._outgoing.read()
            self.pending = rest[_RECORD_BYTES:]
        return False

    def _break(self, failure: BaseException) -> bool:
        """Treat the connection as broken, because the session has raised this when it was written to."""
        self._outgoing.read()
        self._is_broken = True
        if not isinstance(failure, ssl.SSLError):  # it is of the application's own callbacks
            passing, contained = split_failure(failure)
            if contained is not None:
                logger.error("encrypting for peer=%s failed", self.peer, exc_info=contained)
            if passing is not None:
                raise passing
        return False

    def _send_encrypted(self, encrypted: bytes | memoryview, now: float) -> bool:
        """Send bytes that go before what is pending, keep what is not taken; return whether all was."""
        try:
            sent = self.socket.send(encrypted)
        except OSError as error:
            return self._keep_encrypted(encrypted, error)
        self.written_at = now
        if sent == len(encrypted):
            self._encrypted = b""
            return True
        self._encrypted = memoryview(encrypted)[sent:]
        self.pending = self.pending or b""
        return False

    def _keep_encrypted(self, encrypted: bytes | memoryview, error: OSError) -> bool:
        self._is_broken = not isinstance(error, BlockingIOError)
        self._encrypted = encrypted
        self.pending = self.pending or b""
        return False

    # Reading

    def receive_nowait(self) -> bytes | None:
        if self.state is not HandleState.OWNED:
            raise not_owned(self.state)
        return None  # the bytes in the socket have to be decrypted first

    async def receive_some(self) -> bytes:
        while (data := self._decrypt()) is None:
            await self._wait_readable()
        return data

    async def receive_unless_interrupted(self) -> bytes | None:
        data, has_waited = self._decrypt(), False
        while data is None:
            if not await self._wait_readable_unless_interrupted():
                return None
            data, has_waited = self._decrypt(), True
        if not has_waited:
            await trio.lowlevel.checkpoint()
        return data

    def poll_input(self) -> bool:
        try:
            while len(self._received) < RECEIVE_SIZE:
                received, self._received = self._received, b""
                data = self._decrypt()
                self._received = received + (data or b"")
                if not data:
                    return data is not None
        except trio.BrokenResourceError:
            return True
        return False

    def unread_bytes(self) -> int:
        return super().unread_bytes() + len(self._received)

    def _decrypt(self) -> bytes | None:
        """Return what has arrived, empty at the end of the peer's side; `None` if nothing has."""
        if self._received:
            data, self._received = self._received, b""
            return data
        while True:
            try:
                return self._tls.read(RECEIVE_SIZE)
            except ssl.SSLWantReadError:
                encrypted = SocketTransport.receive_nowait(self)
                if encrypted is None:
                    return None
                self._feed(encrypted)
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                if self.state is not HandleState.OWNED:
                    raise not_owned(self.state) from None
                raise trio.BrokenResourceError(f"TLS failed: {error.reason}") from error
            finally:
                self._send_answers()

    def _send_answers(self) -> None:
        """Send what OpenSSL has to say to what it has read: alerts, and refusals to renegotiate.

        While the peer takes nothing, it waits before what is pending.
        """
        answer = self._outgoing.read()
        if not answer or self._is_broken:
            return
        if self.pending is None:
            self._send_encrypted(answer, trio.current_time())
        elif len(self._encrypted) > _RECORD_BYTES + _MAX_ANSWERS:
            self._is_broken = True
        else:
            self._encrypted = b"".join((self._encrypted, answer))

    async def linger(self) -> None:
        self._send_close_notify()
        await super().linger()

    async def aclose(self, *, abort: bool = False) -> None:
        try:
            if not abort:
                self._send_close_notify()
        finally:
            await super().aclose(abort=abort)

    def _send_close_notify(self) -> None:
        """Send `close_notify`: without it, the client cannot tell our end from an attacker's truncation."""
        if self.pending is None and not self._is_broken and self.state is HandleState.OWNED:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()  # do not wait for the answer
            if close_notify := self._outgoing.read():
                self._send_encrypted(close_notify, 0)
