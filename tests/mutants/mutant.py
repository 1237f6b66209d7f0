"""What a mutant is, and the list of all of them: one TOML file for each package, in this folder.

A mutant is one change of the package's text that breaks one promise. The tests that must notice it are named
with it, so a promise whose last test goes, or stops testing it, is missed. The text before the change must
occur exactly once in its file: whoever changes that code is told that its mutant is stale.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import final

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent


@final
@dataclass(frozen=True)
class Mutant:
    """A change of one file.

    Attributes:
        name: unique among all mutants.
        promise: what it breaks, in one sentence.
        file: the changed file's path, from the project's root.
        before, after: the text that the change replaces, and by what.
        tests: the node ids of the tests that must fail.
    """

    name: str
    promise: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]

    @property
    def group(self) -> str:
        """The package that it changes."""
        return Path(self.file).parts[1].removesuffix(".py")

    def apply(self, text: str) -> str:
        """Return the changed text of its file; raises `ValueError` if the mutant is stale."""
        if (count := text.count(self.before)) != 1:
            raise ValueError(f"the text before the change occurs {count} times in {self.file}")
        return text.replace(self.before, self.after)

    def faults(self, root: Path = ROOT) -> Iterator[str]:
        """Yield what is wrong with it: it is stale, changes nothing, or names a test that there is not."""
        try:
            compile(self.apply(_text(root / self.file)), self.file, "exec")
        except (OSError, SyntaxError, ValueError) as failure:
            yield f"{self.name}: {failure}"
        if self.before == self.after:
            yield f"{self.name}: it changes nothing"
        if not self.promise.endswith("."):
            yield f"{self.name}: its promise is no sentence"
        if not self.tests:
            yield f"{self.name}: no test must notice it"
        for test in self.tests:
            file, _, name = test.partition("::")
            path = root / file
            function = re.escape(name.partition("[")[0])
            if not path.is_file():
                yield f"{self.name}: there is no file {file}"
            elif not re.search(rf"^(async )?def {function}\(", _text(path), re.MULTILINE):
                yield f"{self.name}: there is no test {test}"


@cache
def _text(path: Path) -> str:
    return path.read_text()


def load_mutants(folder: Path = FOLDER) -> list[Mutant]:
    """Return all mutants, ordered by file and place; raises `ValueError` if two have one name."""
    mutants: dict[str, Mutant] = {}
    for path in sorted(folder.glob("*.toml")):
        for name, fields in tomllib.loads(path.read_text()).items():
            if name in mutants:
                raise ValueError(f"{path.name}: there is another mutant {name!r}")
            mutants[name] = Mutant(name, **{**fields, "tests": tuple(fields["tests"])})
    return list(mutants.values())
