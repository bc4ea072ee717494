"""Digest the files that a user names, to notice when their content changes.

Snakemake compares the times of files, and a file that replaces another may be older than it. Only the standard library
is imported here, since the Snakefile imports this module in every job.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def content_digest(files: Iterable[str | Path]) -> str:
    """Digest the names and the content of files; empty without files.

    A file that does not exist counts as one without content.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "stream.fits"
    ...     before = content_digest([file])
    ...     _ = file.write_bytes(b"SIMPLE")
    ...     content_digest([file]) == before, content_digest([])
    (False, '')
    """
    digest, paths = hashlib.sha256(), [Path(file) for file in files]
    for path in paths:
        content = b""
        if path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        digest.update(path.name.encode() + content)
    return digest.hexdigest()[:16] if paths else ""
