"""The test's own PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .ports import free_port
from .waiting import SECONDS

_PATH = os.pathsep.join([os.environ.get("PATH", ""), *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
INITDB, POSTGRES, PG_ISREADY = (
    shutil.which(name, path=_PATH) for name in ("initdb", "postgres", "pg_isready")
)


def _user() -> str | None:
    """Return the user who is to run the server, if it is not this one. PostgreSQL refuses to run as root."""
    return "postgres" if os.geteuid() == 0 else None  # Debian's package makes this user


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a server on a free port of 127.0.0.1; yield the URL of an empty database."""
    assert INITDB is not None
    assert POSTGRES is not None
    user, port = _user(), free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if user is not None:
            shutil.chown(folder, user)
        data = Path(folder, "data")
        create = [INITDB, "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(create, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=SECONDS)
        serve = [POSTGRES, "-D", str(data), "-p", f"{port}", "-k", folder, "-h", "127.0.0.1", "-F"]
        process = subprocess.Popen(serve, user=user, cwd=folder, stderr=subprocess.DEVNULL)
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait(20)
