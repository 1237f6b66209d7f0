"""`python -m tests.project.check_types`: the types of the project and of the code blocks, in one run of mypy.

A run for the blocks alone takes seven seconds, to load the types of all frameworks again.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Sequence
from pathlib import Path

from ..support.markdown import PAGES, ROOT, Block, code_blocks
from ..support.programs import tool_environment

BLOCKS = [block for page in PAGES for block in code_blocks(page)]
PYTHON = [block for block in BLOCKS if block.language == "python" and not block.is_skipped]


def as_module(block: Block) -> str:
    """Return a block as a module: a fragment that awaits becomes the body of a coroutine function."""
    text = block.text
    try:
        compile(text, block.name, "exec", dont_inherit=True)
    except SyntaxError:
        text = f"async def example() -> None:\n{textwrap.indent(text, '    ')}"
    return f"{block.preamble}\n{text}"


def check_types(*files: str, blocks: Sequence[Block] = PYTHON) -> tuple[int, str]:
    """Check the types of files and of blocks; return mypy's status, and what it says, by page and line."""
    with tempfile.TemporaryDirectory() as folder:
        written = {}
        for number, block in enumerate(blocks):
            file = Path(folder) / f"block_{number}.py"
            file.write_text(as_module(block))
            written[file.name] = block
        finished = subprocess.run(
            [sys.executable, "-m", "mypy", *files, *(f"{folder}/{name}" for name in sorted(written))],
            cwd=ROOT,
            env=tool_environment(),
            capture_output=True,
            text=True,
        )

    def place(match: re.Match[str]) -> str:
        block = written[match[1]]
        return f"{block.name}, line {int(match[2]) - len(block.preamble.splitlines())} or so:"

    return finished.returncode, re.sub(r"\S*(block_\d+\.py):(\d+):", place, finished.stdout) + finished.stderr


def main() -> int:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    status, said = check_types(*options["files"])
    print(said, end="")
    return status


if __name__ == "__main__":
    sys.exit(main())
