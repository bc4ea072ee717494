"""Files of a run that its catalog and configuration no longer use.

A chunk of cutouts has a new name when its galaxies or its bands change. The earlier file stays, so that nothing is
downloaded if the change is taken back. Files that are not wanted any more can be listed and removed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from tidalkin.atomic import disk_errors, finished_files, half_written_files
from tidalkin.download.tar import journal_folder
from tidalkin.errors import TidalkinError


def leftovers(run: str | Path) -> list[Path]:
    """List what the last run of the workflow did not use.

    Parameters
    ----------
    run : str or Path
        Results of a run, like ``results/hsc_pdr3``.

    Returns
    -------
    list of Path
        Cutouts of chunks that are not in the catalog (tars, ledgers, journals), vectors of shards that the images do
        not have, and half-written files of jobs that were killed.

    Raises
    ------
    TidalkinError
        If it is not a run with finished images, or Snakemake is at work in its folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = Path(folder) / "results" / "demo"
    ...     for name in ("chunks/00000-a.parquet", "cutouts/00000-a.tar", "cutouts/00000-b.tar", "images.json"):
    ...         (run / name).parent.mkdir(parents=True, exist_ok=True)
    ...         _ = (run / name).write_text('{"shards": []}')
    ...     [path.name for path in leftovers(run)]
    ['00000-b.tar']
    """
    run = Path(run)
    chunks = {path.stem for path in finished_files(run / "chunks", "*.parquet")}
    images = run / "images.json"
    if not chunks or not images.is_file():
        raise TidalkinError(f"{run}: is not a run with finished images: name its results, like results/hsc_pdr3")
    locks = run.absolute().parents[1] / ".snakemake" / "locks"
    if locks.is_dir() and any(locks.iterdir()):
        raise TidalkinError(
            f"{locks.parents[1]}: Snakemake is at work there: wait until it ends, or run `snakemake --unlock` if it "
            "was killed"
        )
    try:
        shards = len(json.loads(images.read_text(encoding="utf-8"))["shards"])
    except (ValueError, KeyError, TypeError):
        raise TidalkinError(f"{images}: is damaged: run snakemake, which makes it again") from None
    half_written = [path for name in ("chunks", "cutouts", "embeddings") for path in half_written_files(run / name)]
    return sorted(
        [*_of_other_chunks(run / "cutouts", chunks), *_of_other_shards(run / "embeddings", shards), *half_written]
    )


def size_bytes(path: Path) -> int:
    """Return the size of a file, or of all files in a folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.tar", "b.tar"):
    ...         _ = (Path(folder) / name).write_bytes(bytes(1024))
    ...     size_bytes(Path(folder))
    2048
    """
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def remove(path: Path) -> None:
    """Remove a file or a folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "a.tar"
    ...     file.touch()
    ...     remove(file)
    ...     file.exists()
    False
    """
    with disk_errors(path):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _of_other_chunks(cutouts: Path, chunks: set[str]) -> Iterator[Path]:
    """Yield tars, ledgers and journals that no chunk needs.

    A journal holds the tars of all chunks that ever had its number. It goes with the first of them that is left over,
    or the space would stay taken.
    """
    in_use = {chunk.partition("-")[0] for chunk in chunks}
    for suffix in (".tar", ".ledger.parquet", ".files.txt"):
        for path in finished_files(cutouts, f"*-*{suffix}"):
            if path.name.removesuffix(suffix) not in chunks:
                yield path
                in_use.discard(path.name.partition("-")[0])
    journals = journal_folder(cutouts / "any.tar").parent
    yield from (path for path in journals.glob("*") if path.is_dir() and path.name not in in_use)


def _of_other_shards(embeddings: Path, shards: int) -> Iterator[Path]:
    for path in embeddings.glob("*"):
        number = path.name.partition(".")[0]
        if number.isdecimal() and int(number) >= shards:
            yield path
