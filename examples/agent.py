"""An agent with tools, whose work survives a reload: `python -m examples.agent`.

It answers questions about this documentation. Its run has two texts, the plan and the answer; each call of a
tool is an event, and the run's state says how far it is. Reload the page in the middle, open it in a second
window, or stop it there. The tools really search and read; a stand-in writes the sentences around that.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import trio

from examples.pages import add_pages, add_runs, serve
from trio_sse import Connection, HTTPException, Run, Runs, Server

DOCS = Path(__file__).parents[1] / "docs"
COMMON = {
    "about",
    "and",
    "are",
    "can",
    "does",
    "for",
    "from",
    "have",
    "how",
    "that",
    "the",
    "what",
    "when",
    "why",
}

PAUSE = float(os.environ.get("PAUSE", "0.05"))  # seconds between two words

server = Server()
runs = Runs(server.hub, ttl=600, max_duration=120)


def search(words: list[str]) -> list[str]:
    """Return the pages of the documentation that have most of these words."""
    scores: Counter[str] = Counter()
    for page in DOCS.glob("*.md"):
        text = page.read_text("utf-8").lower()
        counts = [min(text.count(word), 20) for word in words]
        scores[page.stem] = round(1000 * sum(counts) * sum(map(bool, counts)) ** 2 / len(text) ** 0.5)
    return [page for page, score in scores.most_common(3) if score]


def read(page: str, words: list[str]) -> list[str]:
    """Return the sentences of a page that have most of these words."""
    text = re.sub(r"```.*?```", "", (DOCS / f"{page}.md").read_text("utf-8"), flags=re.DOTALL)
    lines = [line for line in text.splitlines() if line.endswith(".") and line[0].isalpha()]
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)|[*`]", r"\1", line) for line in lines]
    scores = Counter({line: sum(word in line.lower() for word in words) for line in plain})
    return [line for line, score in scores.most_common(2) if score]


TOOLS: dict[str, Callable[..., list[str]]] = {"search": search, "read": read}


async def work(run: Run, question: str) -> dict[str, object]:
    """Plan, use tools, and answer; in the run's own task."""
    await run.emit({"text": question}, event="question")
    words = [word for word in re.findall(r"[\w-]{3,}", question.lower()) if word not in COMMON]
    await show(run, 0, "planning")
    plan = (
        f"I look for pages about {', '.join(words) or 'this'}, read the best ones, and quote what they say."
    )
    await write(run, plan, name="plan")
    await show(run, 1, "searching")
    pages: list[str] = await call(run, "search", words=words)
    found: list[str] = []
    for number, page in enumerate(pages):
        await show(run, 2 + number, f"reading {page}.md")
        found += [f"{line} ({page}.md)" for line in await call(run, "read", page=page, words=words)]
    await show(run, 5, "answering")
    await write(run, "\n\n".join(found) if found else "The documentation says nothing about that.")
    await show(run, 6, "done")
    return {"pages": pages}


async def show(run: Run, step: int, doing: str) -> None:
    """Set the run's state: how far it is."""
    await run.set_state({"step": step, "of": 6, "doing": doing})


async def call(run: Run, name: str, **arguments: object) -> list[str]:
    """Call a tool, in a thread, and show the call and its result."""
    await run.emit(
        {"id": (id := f"{name} {arguments}"), "name": name, "arguments": arguments}, event="tool_call"
    )
    await trio.sleep(12 * PAUSE)  # a tool takes its time
    result = await trio.to_thread.run_sync(lambda: TOOLS[name](**arguments))
    await run.emit({"id": id, "result": result}, event="tool_result")
    return result


async def write(run: Run, text: str, name: str = "text") -> None:
    """Add a text word by word, as a model writes."""
    for word in re.findall(r"\S+\s*", text):
        await run.append(word, name=name)
        await trio.sleep(PAUSE)


@server.route("/tasks", methods=["POST"])
async def start(connection: Connection) -> None:
    question = connection.request.body.decode(errors="replace").strip()
    if not 0 < len(question) <= 500:
        raise HTTPException(400, "a question has 1 to 500 characters")
    run = await runs.start(work, question)
    await run.stream(connection)


if __name__ == "__main__":
    add_pages(server, "agent.html")
    add_runs(server, runs, "/tasks")
    trio.run(serve, server)
