"""Bundle the clients of the AI SDK and of AG-UI for the tests: `make clients`, which needs npm.

The bundle is in the repository, so that tests need neither npm nor the network: `clients.mjs.gz`, made of
the packages that `package.json` names, as they are, and `LICENSES.txt`, with the licence of each.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Install the packages in a temporary folder, and write the bundle and the licences here."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("package.json", "entry.mjs"):
            shutil.copy(HERE / file, folder)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund"], cwd=folder, check=True)
        options = ["--bundle", "--platform=browser", "--format=esm", "--minify", "--legal-comments=none"]
        command = ["npx", "esbuild", "entry.mjs", *options, "--outfile=out.mjs", "--metafile=meta.json"]
        subprocess.run(command, cwd=folder, check=True)
        bundle = (folder / "out.mjs").read_bytes()
        (HERE / "clients.mjs.gz").write_bytes(gzip.compress(bundle, 9, mtime=0))
        meta = json.loads((folder / "meta.json").read_text())
        pattern = re.compile(r"(?:.*/)?node_modules/((?:@[^/]+/)?[^/]+)/")
        used = {match[0] for path in meta["inputs"] if (match := pattern.match(path))}
        (HERE / "LICENSES.txt").write_text("\n".join(_licence(folder / path) for path in sorted(used)))


def _licence(package: Path) -> str:
    about = json.loads((package / "package.json").read_text())
    files = [file for file in sorted(package.iterdir()) if file.name.upper().startswith("LICEN")]
    text = "\n".join(file.read_text() for file in files if file.is_file())
    return f"{'=' * 80}\n{about['name']} {about['version']}: {about['license']}\n\n{text.strip()}\n"


if __name__ == "__main__":
    main()
