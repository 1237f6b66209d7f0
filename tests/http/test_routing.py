"""Routes: typed parameters, conflicts, and the destination of a path and a method."""

from __future__ import annotations

import functools
import uuid
from collections.abc import AsyncIterator

import pytest

from trio_sse import Connection, Request, Response, Server
from trio_sse._http.routing import Router

from ..support.cases import each_case
from ..support.leaks import MakeServer
from ..support.serving import in_memory

UUID = "12345678-1234-5678-1234-56781234abCD"


async def takes_anything(connection: object, **parameters: object) -> None:
    """Stand in for a handler; it is never called."""


def router(*paths: str) -> Router[str]:
    """Return a router whose destinations are the paths."""
    made: Router[str] = Router()
    for path in paths:
        made.add(path, ["GET"], path, takes_anything)
    return made


@each_case(
    ("pattern", "path", "value"),
    [
        ("/{x}", "/a", "a"),
        ("/{x:str}", "/a b.c-ü", "a b.c-ü"),
        ("/{x}/c", "/a/c", "a"),
        ("/{x}.json", "/a.b.json", "a.b"),
        ("/{x:int}", "/42", 42),
        ("/{x:int}", "/-42", -42),
        ("/{x:int}", "/007", 7),
        ("/{x:int}", "/" + "9" * 18, 10**18 - 1),
        ("/{x:float}", "/1", 1.0),
        ("/{x:float}", "/-1.5", -1.5),
        ("/{x:uuid}", f"/{UUID}", uuid.UUID(UUID)),
        ("/{x:path}", "/a/b/c", "a/b/c"),
        ("/{x:path}", "/a", "a"),
        ("/{x:path}/end", "/a/b/end", "a/b"),
        ("/{x:path}", "/../a//", "../a//"),
    ],
)
def test_parameters_are_typed(pattern: str, path: str, value: object) -> None:
    match = router(pattern).find(path, "GET")

    assert match is not None
    assert match.parameters == {"x": value}
    assert type(match.parameters["x"]) is type(value)


@each_case(
    ("pattern", "path"),
    [
        ("/a", "/b"),
        ("/a", "/a/"),
        ("/a", "/A"),
        ("/a.b", "/aXb"),
        ("/{x}", "/"),
        ("/{x}", "/a/b"),
        ("/{x}", "/a/"),
        ("/{x:int}", "/a"),
        ("/{x:int}", "/1.0"),
        ("/{x:int}", "/+1"),
        ("/{x:int}", "/1_0"),
        ("/{x:int}", "/--1"),
        ("/{x:int}", "/" + "9" * 19),
        ("/{x:int}", "/\u0665"),
        ("/{x:float}", "/1."),
        ("/{x:float}", "/.5"),
        ("/{x:float}", "/nan"),
        ("/{x:float}", "/inf"),
        ("/{x:float}", "/1e9"),
        ("/{x:uuid}", "/" + UUID.replace("-", "")),
        ("/{x:uuid}", f"/{UUID}0"),
        ("/{x:uuid}", f"/{{{UUID}}}"),
        ("/a/{x:path}", "/a/"),
        ("/{x:path}", "/"),
    ],
)
def test_a_path_that_does_not_match_is_not_found(pattern: str, path: str) -> None:
    assert router(pattern).find(path, "GET") is None


def test_several_parameters_are_passed_by_name() -> None:
    match = router("/{room}/{number:int}/{rest:path}").find("/a/1/b/c", "GET")

    assert match is not None
    assert match.parameters == {"room": "a", "number": 1, "rest": "b/c"}


def test_exact_paths_come_before_patterns_and_patterns_in_their_order() -> None:
    routes = router("/{x:path}", "/{x:int}", "/a")

    found = [routes.find(path, "GET") for path in ("/a", "/1", "/b")]

    assert [match.destination for match in found if match] == ["/a", "/{x:path}", "/{x:path}"]


def test_the_first_pattern_with_the_method_wins() -> None:
    routes = router("/{x:int}", "/a")
    routes.add("/{y}", ["POST"], "posted", takes_anything)

    found = [routes.find(path, method) for path in ("/1", "/a") for method in ("GET", "POST", "PUT")]

    assert [(match.destination, match.parameters, match.methods) for match in found if match] == [
        ("/{x:int}", {"x": 1}, ()),
        ("posted", {"y": "1"}, ()),
        (None, {}, ("GET", "POST")),
        ("/a", {}, ()),
        ("posted", {"y": "a"}, ()),
        (None, {}, ("GET", "POST")),
    ]


def test_a_generator_is_refused_when_it_is_decorated() -> None:
    async def generate(connection: Connection) -> AsyncIterator[str]:
        yield "one"

    with pytest.raises(TypeError, match="must be a coroutine function"):
        Server().route("/")(generate)  # type: ignore[type-var]  # mypy says so, too


@each_case(
    ("path", "message"),
    [
        ("", "begin with '/'"),
        ("a", "begin with '/'"),
        ("{x:path}", "begin with '/'"),
        ("/{", "a parameter must be like"),
        ("/{}", "a parameter must be like"),
        ("/}", "a parameter must be like"),
        ("/{1x}", "a parameter must be like"),
        ("/{x:}", "a parameter must be like"),
        ("/{x y}", "a parameter must be like"),
        ("/<x>{", "a parameter must be like"),
        ("/{x:number}", "type must be one of"),
        ("/{x}/{x:int}", "occurs twice"),
        ("/a/../b", "which clients remove"),
        ("/{x}/.", "which clients remove"),
    ],
)
def test_an_invalid_path_is_refused(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        router(path)


@each_case("methods", [[], ["HEAD"], ["OPTIONS"], ["BREW"], ["GET", "TRACE"], "GET", [""]])
def test_invalid_methods_are_refused(methods: list[str]) -> None:
    with pytest.raises(ValueError, match="methods must be among"):
        Router[str]().add("/", methods, "", takes_anything)


@pytest.mark.parametrize("path", ["/a", "/{x}"])
def test_a_path_and_method_can_be_added_once(path: str) -> None:
    routes = router(path)
    routes.add(path, ["post"], "", takes_anything)

    with pytest.raises(ValueError, match=r"GET .* already has a handler"):
        routes.add(path, ["GET"], "", takes_anything)
    with pytest.raises(ValueError, match=r"POST .* already has a handler"):
        routes.add(path, ["POST"], "", takes_anything)


async def nothing() -> None: ...
async def only_connection(connection: Connection) -> None: ...
async def other_name(connection: Connection, y: str) -> None: ...
async def one_more(connection: Connection, x: str, y: str) -> None: ...
async def by_position_only(connection: Connection, x: str, /) -> None: ...
async def same_name(x: Connection) -> None: ...


@each_case(
    "handler",
    [nothing, only_connection, other_name, one_more, by_position_only, same_name],
)
@each_case("decorator", ["route", "endpoint"])
def test_a_handler_must_take_the_parameters(handler: object, decorator: str) -> None:
    server = Server()

    with pytest.raises(TypeError, match="must take the connection or request, x"):
        getattr(server, decorator)("/{x}")(handler)


def test_a_decorator_returns_the_handler() -> None:
    server = Server()

    async def with_default(connection: Connection, x: str, y: int = 1) -> None: ...

    assert server.route("/{x}")(with_default) is with_default
    assert server.route("/")(functools.partial(with_default, x="a"))


def test_a_refused_route_is_not_added() -> None:
    routes: Router[str] = Router()

    with pytest.raises(TypeError, match="must take"):
        routes.add("/{x}", ["GET"], "", nothing)

    assert routes.find("/a", "GET") is None


async def test_each_method_of_a_path_has_its_own_handler(make_server: MakeServer) -> None:
    server = make_server()

    @server.route("/chat/{room}")
    async def listen(connection: Connection, room: str) -> None:
        await connection.send(f"in {room}")

    @server.endpoint("/chat/{room}", methods=["POST", "PUT"])
    async def speak(request: Request, room: str) -> Response:
        return Response(f"{request.method} to {room}")

    async with in_memory(server) as serving, serving.connect() as client:
        await client.get("/chat/a")
        events = await client.rest()
        spoken = [
            await client.sized_body(await client.get("/chat/a", method=method)) for method in ("POST", "PUT")
        ]
        refused = await client.get("/chat/a", method="DELETE")
        await client.sized_body(refused)
        options = await client.get("/chat/a", method="OPTIONS")

    assert [event.data for event in events] == ["in a"]
    assert spoken == [b"POST to a", b"PUT to a"]
    assert (refused.status, refused.get("Allow")) == (405, "GET, HEAD, POST, PUT, OPTIONS")
    assert (options.status, options.get("Allow")) == (204, "GET, HEAD, POST, PUT, OPTIONS")


async def test_a_get_route_also_answers_head(make_server: MakeServer) -> None:
    server = make_server()
    methods = []

    @server.endpoint("/text")
    async def text(request: Request) -> Response:
        methods.append(request.method)
        return Response("text")

    @server.endpoint("/form", methods=["POST"])
    async def form(request: Request) -> Response:
        return Response("form")

    async with in_memory(server) as serving, serving.connect() as client:
        assert (await client.get("/text", method="HEAD")).status == 200
        assert (await client.get("/form", method="HEAD")).status == 405
        assert (await client.get("/nowhere", method="HEAD")).status == 404
        assert (await client.get("/health", method="HEAD")).status == 200

    assert methods == ["HEAD"]


async def test_health_is_answered_unless_a_route_replaces_it(make_server: MakeServer) -> None:
    plain, routed, none = make_server(), make_server(health_path="/ok"), make_server(health_path=None)

    @routed.endpoint("/ok")
    async def ok(request: Request) -> Response:
        return Response("mine")

    found = []
    for server, path in ((plain, "/health"), (routed, "/ok"), (routed, "/health"), (none, "/health")):
        async with in_memory(server) as serving, serving.connect() as client:
            head = await client.get(path)
            found.append((head.status, await client.sized_body(head)))

    assert found == [(200, b'{"status": "ok"}'), (200, b"mine"), (404, b"Not Found\n"), (404, b"Not Found\n")]
