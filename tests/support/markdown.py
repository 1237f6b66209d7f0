"""The pages of the documentation, and the code blocks in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/reference/*.md", "examples/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)

_MARKED = re.compile(
    r"^<!-- check: (?P<check>preamble\n|skip, .+?)(?P<comment>.*?)-->$"
    r"|^```(?P<language>[\w{}-]*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced code block.

    Attributes:
        preamble: what the page's last `<!-- check: preamble` comment declares for the blocks after it.
        is_skipped: whether a comment `<!-- check: skip, reason -->` stands before it.
    """

    page: Path
    line: int
    language: str
    text: str
    preamble: str
    is_skipped: bool

    @property
    def name(self) -> str:
        """The page and line, as in `docs/hub.md:7`."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def code_blocks(page: Path) -> list[Block]:
    """Return a page's code blocks, in their order."""
    text = page.read_text()
    blocks = []
    preamble = ""
    is_skipped = False
    for match in _MARKED.finditer(text):
        if match["check"] is None:
            line = text.count("\n", 0, match.start()) + 1
            blocks.append(Block(page, line, match["language"], match["text"], preamble, is_skipped))
            is_skipped = False
        elif match["check"].startswith("skip"):
            is_skipped = True
        else:
            preamble = match["comment"]
    return blocks


def prose(page: Path) -> str:
    """Return a page's text without its code blocks and comments."""
    return re.sub(r"^```.*?^```$|<!--.*?-->", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
