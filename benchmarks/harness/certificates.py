"""A certificate for the servers under test. The load does not verify it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme


@contextmanager
def certificate_files() -> Iterator[tuple[str, str]]:
    """Create a certificate; the value of the context are its file and that of its key."""
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        issued = trustme.CA().issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(key)
        issued.cert_chain_pems[0].write_to_path(certificate)
        yield str(certificate), str(key)
