"""A log on Redis Streams, shared by the hubs of any number of processes and machines.

A hub's log is one stream; event ids are the ids of its entries. Beside it there is a hash with the epoch and
the newest entry's number, and for each publisher its last number, so that a repeated append is stored once.
All of this changes in one script, atomically.
"""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, final

import trio

from ._groups import leaf_exceptions
from ._log.protocol import Entry, LogEnd, LogRefused, LogSession, LogUnavailable
from ._log.redis_url import check_redis_url
from ._validate import check_bounds
from ._wire.event import utf8_size

__all__ = ["RedisLog"]

_BLOCK_SECONDS = 1.0

_OPEN = """
local function is_whole(text)
  return text and #text < 16 and string.match(text, '^%d+$')
end
local state = redis.call('HMGET', KEYS[2], 'epoch', 'number')
if redis.call('EXISTS', KEYS[1]) == 0 or not is_whole(state[1]) or not is_whole(state[2]) then
  local now = redis.call('TIME')
  local epoch = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
  if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('XGROUP', 'CREATE', KEYS[1], 'made', '0', 'MKSTREAM')
    redis.call('XGROUP', 'DESTROY', KEYS[1], 'made')
    redis.call('XSETID', KEYS[1], epoch .. '-0')
  end
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], 'epoch', epoch, 'number', 0)
  state = {epoch, '0'}
end
"""

_END = (
    _OPEN
    + """
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if newest then
  return {state[1], state[2], newest[1]}
end
local last = state[1] .. '-0'
if tonumber(state[2]) > 0 then  -- there were some, which are gone: what a client has is not the end
  local information = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #information, 2 do
    if information[i] == 'last-generated-id' then
      last = information[i + 1]
    end
  end
end
return {state[1], state[2], last}
"""
)

_APPEND = (
    _OPEN
    + """
if ARGV[2] ~= '0' then  -- first, as it frees memory, which may be what is short
  local now = redis.call('TIME')
  local oldest = math.max(0, now[1] * 1000 + now[2] / 1000 - ARGV[2])
  redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f', oldest))
end
local number = tonumber(state[2])
local last = tonumber(redis.call('GET', KEYS[3]) or '0')
for i = 3, #ARGV, 2 do
  local own = tonumber(ARGV[i])
  if own > last then
    number = number + 1
    last = own
    redis.call('XADD', KEYS[1], '*', 'e', state[1], 'n', string.format('%.0f', number), 'd', ARGV[i + 1])
  end
end
redis.call('HSET', KEYS[2], 'number', string.format('%.0f', number))
redis.call('SET', KEYS[3], string.format('%.0f', last), 'EX', 86400)
redis.call('XTRIM', KEYS[1], 'MAXLEN', ARGV[1])
return number
"""
)

_REFUSALS = re.compile(
    "WRONGPASS|NOAUTH|NOPERM|WRONGTYPE|AUTH|invalid password|DB index|unknown command", re.I
)


@final
class RedisLog:
    """A log on Redis, for `Hub(log=...)`.

    Args:
        url: `redis://[user:password@]host[:port][/database]`, or `rediss://` for TLS, by which the server's
            certificate and name are checked; `?ssl_ca_certs=FILE` names an authority of your own. What is
            special in a URL is written as `%40`, say, in a password.
        prefix: what the names of its keys begin with; hubs with one prefix share one log.
        max_events: how many entries Redis keeps.
        max_age: for how many seconds it keeps them, looked at whenever something is published.
        publish_timeout: for how many seconds `Hub.publish` waits until its event is stored.
        timeout: for how many seconds an answer is waited for before the connection is given up.

    Raises:
        ImportError: the extra `redis` is missing.
        ValueError: the URL or a bound is not acceptable.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "trio-sse",
        max_events: int = 100_000,
        max_age: float = math.inf,
        publish_timeout: float = 5.0,
        timeout: float = 2.0,
    ) -> None:
        self._ssl_context = check_redis_url(url)
        check_bounds(1, max_events=max_events)
        utf8_size("prefix", prefix)
        try:
            import coredis  # noqa: F401  # now, so that workers which are forked later share it
        except ImportError:
            raise ImportError("RedisLog needs its extra: pip install 'trio-sse[redis]'") from None
        if not (max_age > 0 and publish_timeout > 0 and timeout > 0):
            raise ValueError("max_age, publish_timeout and timeout must be above 0 seconds")
        self.publish_timeout = publish_timeout
        self._url = url
        self._stream = f"{{{prefix}}}:log"
        self._state = f"{{{prefix}}}:state"
        self._publisher = f"{{{prefix}}}:publisher:"
        self._max_events = max_events
        self._max_age = max_age
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<RedisLog {self._stream}>"  # not the URL, which may have a password

    def connect(self) -> AbstractAsyncContextManager[LogSession]:
        """Give a session; see `Log.connect`."""
        return self._connect()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[LogSession]:
        import coredis
        from coredis.retry import NoRetryPolicy

        with _translated(self._timeout):
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
class _Session:
    def __init__(self, log: RedisLog, client: Any) -> None:
        self._log = log
        self._client = client

    async def tail(self) -> LogEnd:
        log = self._log
        with _translated(log._timeout), trio.fail_after(log._timeout):
            epoch, number, last = await self._client.eval(_END, [log._stream, log._state])
        return LogEnd(_text(epoch), int(number), _text(last))

    async def read_backward(self, upto: str, limit: int) -> Sequence[Entry]:
        log = self._log
        with _translated(log._timeout), trio.fail_after(log._timeout):
            found: list[list[Any]] | None = await self._client.create_request(
                b"XREVRANGE", log._stream, upto, b"-", b"COUNT", limit, callback=_as_it_is
            )
        return _entries(found or ())

    async def read(self, after: str, limit: int) -> Sequence[Entry]:
        log = self._log
        block = int(_BLOCK_SECONDS * 1000)
        with _translated(log._timeout), trio.fail_after(log._timeout + _BLOCK_SECONDS):
            # Not `client.xread`, which makes a dict of each entry's fields: a tenth of what following costs.
            found: dict[bytes, list[list[Any]]] | None = await self._client.create_request(
                b"XREAD",
                *(b"BLOCK", block, b"COUNT", limit, b"STREAMS", log._stream, after),
                callback=_as_it_is,
            )
        if not found:
            return ()
        (entries,) = found.values()
        return _entries(entries)

    async def append(self, publisher: str, records: Sequence[tuple[int, bytes]]) -> None:
        log = self._log
        age = "0" if log._max_age == math.inf else str(max(1, round(log._max_age * 1000)))
        arguments: list[str | bytes] = [str(log._max_events), age]
        for number, record in records:
            arguments += (str(number), record)
        keys = [log._stream, log._state, log._publisher + publisher]
        with _translated(log._timeout), trio.fail_after(log._timeout):
            await self._client.eval(_APPEND, keys, arguments)


def _as_it_is(reply: Any) -> Any:
    return reply


def _entries(found: Iterable[list[Any]]) -> list[Entry]:
    """Make entries of pairs of an id and fields; what doesn't look as ours does is none of a hub's."""
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
def _translated(seconds: float) -> Iterator[None]:
    """Turn what coredis, the network and the deadline raise into this project's two errors."""
    import coredis.exceptions
    from coredis.exceptions import RedisError

    def translate(error: BaseException) -> Exception | None:
        if isinstance(error, LogUnavailable | LogRefused):
            return error
        if isinstance(error, trio.TooSlowError | TimeoutError):
            return LogUnavailable(f"Redis doesn't answer within {seconds:g} s")
        if isinstance(error, RedisError):
            cause = error.__cause__ or error.__context__
            if isinstance(cause, ssl.SSLCertVerificationError):
                return LogRefused(f"Redis: its certificate is not accepted: {cause.verify_message}")
            # A connection's error has the host in its text, whatever that is called.
            is_said = not isinstance(error, coredis.exceptions.ConnectionError)
            is_refusal = is_said and _REFUSALS.search(f"{type(error).__name__} {error}")
            kind = LogRefused if is_refusal else LogUnavailable
            needs_password = is_refusal and re.search("NOAUTH|HELLO must be called", str(error))
            advice = ": it wants a password, as in redis://:password@host" if needs_password else ""
            return kind(f"Redis: {error}{advice}")
        if isinstance(error, OSError | trio.BrokenResourceError | trio.ClosedResourceError):
            return LogUnavailable(f"Redis can't be reached: {error}")
        return None

    try:
        yield
    except BaseExceptionGroup as group:
        found = [translate(leaf) for leaf in leaf_exceptions(group)]
        if None in found:  # with a cancellation, say, which goes on alone
            _, rest = group.split(lambda error: translate(error) is not None)
            raise (rest or group) from None
        refusals = [error for error in found if isinstance(error, LogRefused)]
        raise (refusals or found)[0] from group  # type: ignore[misc]  # there is no None among them
    except Exception as error:
        translated = translate(error)
        if translated is None or translated is error:
            raise
        raise translated from error
