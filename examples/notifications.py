"""Notifications: a topic for each user, a login, and unread messages. `python -m examples.notifications`.

Unread messages are kept in memory; an application would keep them in its database. The stream sends new
ones. The cursor is read before the unread messages, so the page misses none between the two. Each user's
topic keeps 100 messages for a day: a page that was away for longer receives a `reset`, and loads again.
"""

from __future__ import annotations

import json
import secrets
from http.cookies import SimpleCookie

import trio

from examples.pages import add_pages, serve
from trio_sse import Connection, HTTPException, Hub, Request, Response, Retention, Server, ServerSentEvent

DAY = 24 * 3600

server = Server(hub=Hub(retention={"users/*": Retention(events=100, age=DAY)}))
sessions: dict[str, str] = {}  # user by cookie
unread: dict[str, list[str]] = {}  # messages by user


def user_of(request: Request) -> str:
    """Return the name of the user who is logged in."""
    cookie = SimpleCookie(request.headers.get("cookie") or "").get("session")
    name = sessions.get(cookie.value) if cookie else None
    if name is None:
        raise HTTPException(401, "log in first")
    return name


def check_name(name: object) -> str:
    """Return a user's name; refuse what is none."""
    if not isinstance(name, str) or not name.isalnum() or len(name) > 100:
        raise HTTPException(400, "a name has up to 100 letters and digits")
    return name


@server.endpoint("/login", methods=["POST"])
async def login(request: Request) -> Response:
    name = check_name(request.body.decode(errors="replace").strip())
    token = secrets.token_urlsafe()
    sessions[token] = name
    return Response(status=204, headers={"Set-Cookie": f"session={token}; HttpOnly; SameSite=Strict"})


@server.endpoint("/unread")
async def list_unread(request: Request) -> Response:
    name = user_of(request)
    cursor = server.hub.last_event_id
    body = {"name": name, "cursor": cursor, "unread": unread.get(name, [])}
    return Response(json.dumps(body), content_type="application/json", headers={"Cache-Control": "no-store"})


@server.endpoint("/read", methods=["POST"])
async def mark_read(request: Request) -> Response:
    unread.pop(user_of(request), None)
    return Response(status=204)


@server.endpoint("/notify", methods=["POST"])
async def notify(request: Request) -> Response:
    sender = user_of(request)
    try:
        message = json.loads(request.body)
        receiver = check_name(message["to"])
        event = ServerSentEvent(f"{sender}: {message['text']}", event="notification")
    except (ValueError, TypeError, KeyError, RecursionError):
        raise HTTPException(400, "a message is a JSON object with a name in `to`, and a `text`") from None
    unread.setdefault(receiver, []).append(event.text())
    await server.hub.publish(f"users/{receiver}", event.text(), event="notification")
    return Response(status=204)


@server.route("/notifications")
async def notifications(connection: Connection) -> None:
    await connection.subscribe(f"users/{user_of(connection.request)}")


if __name__ == "__main__":
    add_pages(server, "notifications.html")
    trio.run(serve, server)
