"""A log's URL never appears with its secrets in an error or a log line."""

from __future__ import annotations

import contextlib
import logging
import traceback
from functools import partial
from itertools import product

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from trio_sse import Hub, LogRefused, LogUnavailable, Server
from trio_sse._log_backends.log_url import redact
from trio_sse._program.errors import ProgramError
from trio_sse._program.shared_log import use_log
from trio_sse.redis import RedisLog

from ..support.cases import each_case
from ..support.programs import trio_sse

SECRET = "hunter2xyz"

SCHEMES = [
    *("redis://", "rediss://", "unix://", "sqlite:", "sqlite://"),
    *("redi://", "rediss:/", "redis:", "redis//", "Redis://", " redis://", "reids://", "http://", "://", ""),
    *("sqlite:redis://", "sqlite://redis://", "redis://redis://"),
]
SECRETS = [
    SECRET,
    f"{SECRET}/word",
    f"12/{SECRET}",
    f"12?{SECRET}",
    f"12?{SECRET}=1",
    f"12#{SECRET}",
    f"p@{SECRET}",
]
USERS = ["", SECRET]
ENDS = [
    "@host:6379/0",
    "@ho st:port/0",
    "@host..example/0",
    "@host:70000",
    "@[::1/0",
    "@host/x",
    "@host?nope=1",
    "",
]
URLS = [
    f"{scheme}{user}:{secret}{end}" for scheme, user, secret, end in product(SCHEMES, USERS, SECRETS, ENDS)
]


def whole_text(error: BaseException) -> str:
    """Return all that a program may print of an error, with those that it was made from."""
    lines = traceback.TracebackException.from_exception(error).format()
    return "".join(line for line in lines if "File " not in line)


def refusals_of(url: str) -> list[str]:
    """Return what is said of a URL by the class and by the program, as far as they refuse it."""
    texts = []
    server = Server()
    for make in (RedisLog, lambda url: use_log(server, url)):
        try:
            make(url)
        except (ValueError, ProgramError) as error:
            texts.append(whole_text(error))
    return texts


@pytest.mark.integration
def test_no_error_about_a_malformed_url_quotes_a_secret() -> None:
    refusals = {url: refusals_of(url) for url in URLS}
    assert sum(len(texts) for texts in refusals.values()) > len(URLS)
    assert [url for url, texts in refusals.items() if SECRET in "".join(texts)] == []


@given(
    st.text(st.sampled_from("redis:/@?#[]%=&.0a"), max_size=12),
    st.text(st.sampled_from(":/@?#[]%=&.0a"), max_size=8),
)
def test_no_error_about_any_text_quotes_it(before: str, after: str) -> None:
    assert SECRET not in "".join(refusals_of(f"{before}{SECRET}{after}"))


@each_case(
    ("url", "hint"),
    [
        ("redi://:x@host", "did you mean redis:"),
        ("reddiss://:x@host", "did you mean rediss:"),
        ("sqlite3:log.db", "did you mean sqlite:"),
        ("postgres://host", "it must be redis://"),
    ],
)
def test_a_mistyped_scheme_is_answered_with_the_right_one(url: str, hint: str) -> None:
    with pytest.raises(ProgramError, match=f"--log: .*{hint}"):
        use_log(Server(), url)


@pytest.mark.integration
def test_the_program_prints_no_secret() -> None:
    url = f"redi://user:{SECRET}@host"
    with trio_sse("serve", "examples.served:server", "--log", url, "--log-level", "debug") as program:
        printed = program.stderr.expect("did you mean redis:").string + program.stderr.rest()
    assert SECRET not in printed


@each_case(
    ("text", "redacted"),
    [
        (
            "ERR unknown command `HELLO`, with args beginning with: `3` `AUTH` `u` `p%40ss`",
            "ERR unknown command `HELLO`",
        ),
        ("WRONGPASS for p@ss", "WRONGPASS for ***"),
        ("connecting to redis://u:p%40ss@host", "connecting to redis://u:***@host"),
        ("nothing", "nothing"),
    ],
)
def test_texts_of_others_are_redacted(text: str, redacted: str) -> None:
    assert redact(text, "redis://u:p%40ss@host/0") == redacted


def test_a_token_in_the_place_of_a_user_is_redacted() -> None:
    assert redact("AUTH token", "redis://token@host") == "AUTH ***"
    assert redact("AUTH token", "redis://host/token") == "AUTH token"


@pytest.mark.slow
async def test_a_server_that_quotes_the_password_is_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """As Redis 5 and older do, which do not know HELLO."""

    async def answer(stream: trio.SocketStream) -> None:
        received = await stream.receive_some()
        assert SECRET.encode() in received
        await stream.send_all(
            b"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `"
            + SECRET.encode()
            + b"`\r\n"
        )
        await trio.sleep_forever()

    caplog.set_level(logging.DEBUG)
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, host="127.0.0.1")
        (listener,) = await nursery.start(serve, answer, 0)
        log = RedisLog(f"redis://user:{SECRET}@127.0.0.1:{listener.socket.getsockname()[1]}", timeout=1)
        with pytest.raises((LogRefused, LogUnavailable), match="unknown command") as raised:
            async with log.connect() as session:
                await session.tail()
        assert SECRET not in whole_text(raised.value)
        with trio.move_on_after(1), contextlib.suppress(LogRefused):
            await Hub(log=log).run()
        nursery.cancel_scope.cancel()
    assert SECRET not in caplog.text
