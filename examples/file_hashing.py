"""Hash the files of a folder as a job that survives a reload: `python -m examples.file_hashing [FOLDER]`.

Each job is a run. Threads read and hash, at the speed that is asked for; the progress is the run's state, and
the checksums are its text. A page that is reloaded, or opened in another window, shows the job where it is.
Cancelling it ends it between two pieces of a file.
"""

from __future__ import annotations

import hashlib
import json
import sys
import sysconfig
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import trio

from examples.pages import add_pages, add_runs, serve
from trio_sse import Connection, HTTPException, Request, Response, Run, RunFailed, Runs, Server

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_path("stdlib")).resolve()
PIECE = 256 * 1024  # bytes that a thread reads and hashes at once
WORKERS = 4

server = Server()
runs = Runs(server.hub, ttl=600, max_runs_per_owner=4, max_bytes=16 * 1024 * 1024)


@dataclass
class Progress:
    """How far a job is; it is the run's state."""

    folder: str
    files: int
    bytes: int
    done_files: int = 0
    done_bytes: int = 0
    file: str = ""


async def hash_folder(run: Run, folder: Path, pace: float) -> dict[str, object]:
    """Hash all files below a folder, or one file, at most `pace` bytes a second; in the run's own task."""
    files = await trio.to_thread.run_sync(files_of, folder)
    progress = Progress(str(folder.relative_to(ROOT)), len(files), sum(files.values()))
    waiting = iter(files)  # which the workers share
    sums: dict[str, str] = {}
    began_at = trio.current_time()

    async def hash_files() -> None:
        for path in waiting:
            name = progress.file = str(path.relative_to(ROOT))
            digest = hashlib.sha256()
            try:
                async with await trio.open_file(path, "rb") as file:
                    while size := await trio.to_thread.run_sync(hash_piece, file.wrapped, digest):
                        progress.done_bytes += size
                        await trio.sleep_until(began_at + progress.done_bytes / pace)
            except OSError as error:
                raise RunFailed(f"{name}: {error.strerror}") from error
            progress.done_files += 1
            sums[name] = digest.hexdigest()
            await run.append(f"{sums[name]}  {name}\n")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(show, run, progress)
        async with trio.open_nursery() as workers:
            for _ in range(WORKERS):
                workers.start_soon(hash_files)
        nursery.cancel_scope.cancel()
    await run.set_state(asdict(progress))
    lines = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
    return {"sha256": hashlib.sha256(lines.encode()).hexdigest()}


def files_of(folder: Path) -> dict[Path, int]:
    """Return the files and their sizes; it runs in a thread."""
    found = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    return {path: path.stat().st_size for path in found if path.is_file() and not path.is_symlink()}


def hash_piece(file: BinaryIO, digest: hashlib._Hash) -> int:
    """Read and hash a piece of a file; it runs in a thread."""
    piece = file.read(PIECE)
    digest.update(piece)
    return len(piece)


async def show(run: Run, progress: Progress) -> None:
    """Show the progress ten times a second."""
    while True:
        await run.set_state(asdict(progress))
        await trio.sleep(0.1)


@server.endpoint("/folders")
async def folders(request: Request) -> Response:
    """Return what can be hashed."""
    names = sorted(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("_"))
    return Response(json.dumps({"root": str(ROOT), "folders": names}), content_type="application/json")


@server.route("/jobs", methods=["POST"])
async def start(connection: Connection) -> None:
    """Start a job, and stream it."""
    try:
        asked = json.loads(connection.request.body)
        folder, pace = (ROOT / asked["folder"]).resolve(), 1e6 * float(asked["pace"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise HTTPException(400, "a job has a folder, and a pace in MB a second") from None
    if not folder.is_relative_to(ROOT) or not folder.exists() or not pace > 0:
        raise HTTPException(404, "there is no such file or folder")
    run = await runs.start(hash_folder, folder, pace, owner=connection.peer)
    await run.stream(connection)


if __name__ == "__main__":
    add_pages(server, "file_hashing.html")
    add_runs(server, runs, "/jobs")
    trio.run(serve, server)
