"""A small file that stands for all images of a run."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tidalkin.atomic import atomic_path


def write_digest(shards: str | Path, output: str | Path) -> None:
    """Write the digest of the list of an image store's shards.

    Parameters
    ----------
    shards : path
        The list, ``images.json``.
    output : path
        One line of text: the SHA-256 of the list.

    Raises
    ------
    TidalkinError
        If the output cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shards, output = Path(folder) / "images.json", Path(folder) / "images.digest"
    ...     _ = shards.write_text('{"shards": []}')
    ...     write_digest(shards, output)
    ...     output.read_text()[:16]
    'f6ec6dcb324b6338'
    """
    digest = hashlib.sha256(Path(shards).read_bytes()).hexdigest()
    with atomic_path(output) as partial:
        partial.write_text(digest + "\n")
