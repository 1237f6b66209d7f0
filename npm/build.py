"""Build the npm package from the parts of the client script: `python npm/build.py FOLDER`, or `make npm`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from trio_sse import client_script

HERE = Path(__file__).parent
NAMES = ("follow", "clock", "state", "run", "FetchSource", "mergePatch", "jsonPatch")
GLOBAL = "globalThis.TrioSSE = (() => {"


def build(folder: Path) -> None:
    """Write the package, with the script as a module that creates no global."""
    script = client_script()
    assert script.count(GLOBAL) == 1
    exports = f"\nexport const {{ {', '.join(NAMES)} }} = TrioSSE;\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.js").write_text(script.replace(GLOBAL, "const TrioSSE = (() => {") + exports)
    for name in ("package.json", "README.md", "index.d.ts"):
        shutil.copy(HERE / name, folder / name)
    shutil.copy(HERE.parent / "LICENSE", folder / "LICENSE")


if __name__ == "__main__":
    build(Path(sys.argv[1]))
