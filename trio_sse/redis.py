"""A log on Redis Streams, shared by the hubs of any number of processes and machines.

A log is one stream; event ids are the ids of its entries. A hash has the epoch and the newest entry's number,
and a key of each publisher has its last number, so that a repeated append is stored once. All of this changes
in one script, atomically.
"""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, final

import trio

from ._groups import leaf_exceptions
from ._log.idempotency import KEY_SECONDS, MOST_SHARED_KEYS, check_key_age
from ._log_backends.log_url import redact
from ._log_backends.redis_runs import RedisRuns
from ._log_backends.redis_scripts import APPEND, EXCHANGE, HOLD, RELEASE, RENEW, TAIL
from ._log_backends.redis_url import check_redis_url
from ._shared_log.protocol import (
    Entry,
    EventRefused,
    KeyedRecord,
    LogEnd,
    LogRefused,
    LogSession,
    LogUnavailable,
)
from ._validate import check_bounds, check_seconds
from ._wire.event import utf8_size

__all__ = ["RedisLog"]

_BLOCK_SECONDS = 1.0

_REFUSALS = re.compile(
    "WRONGPASS|NOAUTH|NOPERM|WRONGTYPE|AUTH|invalid password|DB index|unknown command", re.I
)
_TOO_LARGE = re.compile("invalid bulk length|string exceeds maximum allowed size", re.I)


@final
class RedisLog:
    """A log on Redis, for `Hub(log=...)`.

    Args:
        url: `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS, which checks the
            server's certificate and name; `?ssl_ca_certs=FILE` names your own authority. Special
            characters in a password are percent-encoded: `%40` for `@`.
        prefix: what the names of its keys start with; hubs with the same prefix share one log.
        max_events: how many entries Redis keeps.
        max_age: how many seconds it keeps them; old entries are dropped when something is published.
        max_keys, key_age: how many idempotency keys are remembered, and for how many seconds.
        publish_timeout: how many seconds `Hub.publish` waits until its event is stored.
        timeout: how many seconds to wait for a reply before the connection is closed.

    Raises:
        ImportError: the extra `redis` is missing.
        TypeError, ValueError: the URL or a bound is not acceptable.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "trio-sse",
        max_events: int = 100_000,
        max_age: float = math.inf,
        max_keys: int = MOST_SHARED_KEYS,
        key_age: float = KEY_SECONDS,
        publish_timeout: float = 5.0,
        timeout: float = 2.0,
    ) -> None:
        self._ssl_context = check_redis_url(url)
        check_bounds(1, max_events=max_events, max_keys=max_keys)
        check_key_age(key_age)
        utf8_size("prefix", prefix)
        try:
            import coredis  # noqa: F401  # now, so that workers that are forked later share it
        except ImportError:
            raise ImportError("RedisLog needs its extra: pip install 'trio-sse[redis]'") from None
        check_seconds(max_age=max_age, publish_timeout=publish_timeout, timeout=timeout)
        self.publish_timeout = publish_timeout
        self._url = url
        self._stream = f"{{{prefix}}}:log"
        self._state = f"{{{prefix}}}:state"
        self._publisher = f"{{{prefix}}}:publisher:"
        self._keys = f"{{{prefix}}}:keys"
        self._lease = f"{{{prefix}}}:lease:"
        self._runs = f"{{{prefix}}}:runs:"
        self._notices = f"{{{prefix}}}:nodes"
        self.max_events = self._max_events = max_events
        self._max_keys = max_keys
        self._key_age = key_age
        self.max_age = self._max_age = max_age
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<RedisLog {self._stream}>"  # not the URL, which may contain a password

    def connect(self) -> AbstractAsyncContextManager[LogSession]:
        """Return a session; see `Log.connect`."""
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[LogSession]:
        import coredis
        from coredis.retry import NoRetryPolicy

        with _translated(self._url, self._timeout):
            client: Any = coredis.Redis.from_url(
                self._url,
                decode_components=True,
                ssl_context=self._ssl_context,
                verify_version=False,
                connect_timeout=self._timeout,
                max_connections=2,
                retry_policy=NoRetryPolicy(),
            )
            async with client:
                yield _Session(self, client)


@final
class _Session(RedisRuns):
    def __init__(self, log: RedisLog, client: Any) -> None:
        self._log = log
        self._client = client

    async def tail(self) -> LogEnd:
        log = self._log
        with _translated(log._url, log._timeout), trio.fail_after(log._timeout):
            epoch, number, last = await self._client.eval(TAIL, [log._stream, log._state])
        return LogEnd(_text(epoch), int(number), _text(last))

    async def read_backward(self, upto: str, limit: int) -> Sequence[Entry]:
        log = self._log
        with _translated(log._url, log._timeout), trio.fail_after(log._timeout):
            found: list[list[Any]] | None = await self._client.create_request(
                b"XREVRANGE", log._stream, upto, b"-", b"COUNT", limit, callback=_unchanged
            )
        return _entries(found or ())

    async def read(self, after: str, limit: int) -> Sequence[Entry]:
        log = self._log
        block = int(_BLOCK_SECONDS * 1000)
        with _translated(log._url, log._timeout), trio.fail_after(log._timeout + _BLOCK_SECONDS):
            # Not `client.xread`, which makes a dict of each entry's fields: a tenth of the cost of following.
            found: dict[bytes, list[list[Any]]] | None = await self._client.create_request(
                b"XREAD",
                *(b"BLOCK", block, b"COUNT", limit, b"STREAMS", log._stream, after),
                callback=_unchanged,
            )
        if not found:
            return ()
        (entries,) = found.values()
        return _entries(entries)

    async def renew(self, epoch: str) -> None:
        """See `RenewableSession`."""
        log = self._log
        with _translated(log._url, log._timeout), trio.fail_after(log._timeout):
            await self._client.eval(RENEW, [log._stream, log._state], [epoch])

    async def hold(self, name: str, holder: str, seconds: float) -> bool:
        """See `LeaseSession`."""
        log = self._log
        with _translated(log._url, log._timeout), trio.fail_after(log._timeout):
            arguments = [holder, str(round(seconds * 1000))]
            return bool(await self._client.eval(HOLD, [log._lease + name], arguments))

    async def release(self, name: str, holder: str) -> None:
        """See `LeaseSession`."""
        log = self._log
        with _translated(log._url, log._timeout), trio.fail_after(log._timeout):
            await self._client.eval(RELEASE, [log._lease + name], [holder])

    async def _eval(self, script: str, arguments: Sequence[bytes]) -> Any:
        log = self._log
        with _translated(log._url, log._timeout), trio.fail_after(log._timeout):
            return await self._client.eval(script, [log._runs], arguments)

    async def exchange_notices(self, name: str, notice: bytes, seconds: float) -> Mapping[str, bytes]:
        """See `NoticeSession`."""
        log = self._log
        with _translated(log._url, log._timeout), trio.fail_after(log._timeout):
            arguments: list[str | bytes] = [name, notice, str(round(seconds * 1000))]
            keys = [log._notices, f"{log._notices}:until"]
            flat: list[bytes] = await self._client.eval(EXCHANGE, keys, arguments)
        return {_text(key): value for key, value in zip(flat[::2], flat[1::2], strict=True)}

    async def append(self, publisher: str, records: Sequence[tuple[int, bytes]]) -> None:
        await self.append_once(publisher, [KeyedRecord(number, record, None) for number, record in records])

    async def append_once(self, publisher: str, records: Sequence[KeyedRecord]) -> Sequence[int]:
        """See `IdempotentSession`."""
        log = self._log
        age = "0" if log._max_age == math.inf else str(max(1, round(log._max_age * 1000)))
        arguments: list[str | bytes] = [str(log._max_events), age]
        arguments += (str(log._max_keys), str(max(1, round(log._key_age * 1000))))
        for number, record, key in records:
            arguments += (str(number), key or b"", record)
        keys = [log._stream, log._state, log._publisher + publisher, log._keys]
        with _translated(log._url, log._timeout), trio.fail_after(log._timeout):
            stored: list[int] = await self._client.eval(APPEND, keys, arguments)
        return [records[index - 1].number for index in stored]


def _unchanged(reply: Any) -> Any:
    return reply


def _entries(found: Iterable[list[Any]]) -> list[Entry]:
    """Return the entries of pairs of an id and fields; one with other fields was not appended by a hub."""
    entries = []
    for id, fields in found:
        match fields:
            case [b"e", epoch, b"n", number, b"d", record] if _is_number(epoch) and _is_number(number):
                entries.append(Entry(id.decode(), epoch.decode(), int(number), record))
            case _:
                entries.append(Entry(id.decode(), "", 0, b""))
    return entries


def _is_number(value: bytes) -> bool:
    return value.isdigit() and len(value) < 20


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


@contextmanager
def _translated(url: str, seconds: float) -> Iterator[None]:
    """Translate what coredis, the network and the deadline raise into `LogUnavailable` or `LogRefused`."""
    try:
        yield
    except BaseExceptionGroup as group:
        found = [_translate(leaf, url, seconds) for leaf in leaf_exceptions(group)]
        if None in found:  # for example with a cancellation, which continues alone
            _, rest = group.split(lambda error: _translate(error, url, seconds) is not None)
            raise (rest or group) from None
        refusals = [error for error in found if isinstance(error, LogRefused)]
        raise (refusals or found)[0] from None  # type: ignore[misc]  # there is no None among them
    except Exception as error:
        translated = _translate(error, url, seconds)
        if translated is None or translated is error:
            raise
        raise translated from None  # what it was made from may quote the password


def _translate(error: BaseException, url: str, seconds: float) -> Exception | None:
    """Return the error of this project for another's, or `None` if it is not one of the log."""
    from coredis.exceptions import RedisError

    if isinstance(error, LogUnavailable | LogRefused | EventRefused):
        return error
    if isinstance(error, trio.TooSlowError | TimeoutError):
        return LogUnavailable(f"Redis did not answer within {seconds:g} s")
    if isinstance(error, RedisError):
        return _translate_redis(error, url)
    if isinstance(error, OSError | trio.BrokenResourceError | trio.ClosedResourceError):
        return LogUnavailable(f"Redis cannot be reached: {redact(str(error), url)}")
    return None


def _translate_redis(error: Exception, url: str) -> Exception:
    import coredis.exceptions

    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return LogRefused(f"Redis: certificate verification failed: {cause.verify_message}")
    text = redact(str(error), url)
    # The text of a connection's error contains the host, which may be named like a refusal.
    is_reply = not isinstance(error, coredis.exceptions.ConnectionError)
    if is_reply and _TOO_LARGE.search(text):
        return EventRefused(f"Redis: {text}")
    is_refusal = is_reply and _REFUSALS.search(f"{type(error).__name__} {text}")
    kind = LogRefused if is_refusal else LogUnavailable
    needs_password = is_refusal and re.search("NOAUTH|HELLO must be called", text)
    advice = ": a password is required, as in redis://:password@host" if needs_password else ""
    return kind(f"Redis: {text}{advice}")
