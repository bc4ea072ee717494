"""Convert cutouts to the image store: one Dask graph, one task per shard.

Each task reads its catalog rows, their ledger rows and their FITS files, and writes one whole shard. No two tasks touch
the same file, and no task needs the output of another. The memory of the driver grows only with the lists of chunks
and shards.

The store is built in ``<output>.partial``, with a note for each finished shard that records its inputs. After an
interruption, a shard whose note still holds is kept. So is a shard of the run's earlier store: where the catalog has
grown, only new shards and the last one are converted. The last step renames the store to its place.
"""

from __future__ import annotations

import csv
import json
import logging
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from distributed import Client, KilledWorker, as_completed

from tidalkin.atomic import atomic_path
from tidalkin.config import Dask, Images
from tidalkin.errors import TidalkinError
from tidalkin.images.dask_cluster import _client, _wait_for_a_worker
from tidalkin.images.inputs import Chunk, Conversion, ShardReport, _parquet, _read_note, _writing
from tidalkin.images.shard import convert_shard
from tidalkin.images.store import ImageStore, store_attributes

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_PROGRESS = 5.0
PROBLEMS_LOGGED = 20


def convert(
    *,
    catalog: str | Path,
    tars: Sequence[str | Path],
    ledgers: Sequence[str | Path],
    bands: Sequence[str],
    images: Images,
    dask: Dask,
    threads: int,
    output: str | Path,
    problems: str | Path,
) -> None:
    """Convert all cutouts of a run to one image store.

    A local Dask cluster starts processes that import the calling script again. Guard the call with
    ``if __name__ == "__main__":``.

    Parameters
    ----------
    catalog : path
        The checked catalog (Parquet): one row of the store for each of its rows.
    tars, ledgers : sequence of path
        Tar and ledger of each chunk, in the order of the catalog.
    bands : sequence of str
        Bands, in the order of the store; those of the ledgers.
    images : Images
        Grid, shards, and which mask planes are bad.
    dask : Dask
        Where the tasks run.
    threads : int
        Workers, where ``dask.workers`` does not say.
    output : path
        The store. What is finished of it stays in ``<output>.partial`` when the conversion is interrupted. An earlier
        store stays until this one is whole; its shards are linked, not made again, where their inputs are the same.
        Beside it, ``images.json`` lists the digest of each shard's inputs.
    problems : path
        CSV table (object_id, band, reason) of the cutouts that could not be used, or not as a whole. Their pixels, or
        those named, are missing.

    Raises
    ------
    TidalkinError
        If ledgers and catalog do not belong together, a tar cannot be read, the disk is full, a worker dies again and
        again, or no object has an image.

    Examples
    --------
    >>> chunk = "results/demo/cutouts/00000"
    >>> inputs = {"catalog": "results/demo/catalog.parquet", "tars": [f"{chunk}.tar"]}
    >>> inputs["ledgers"] = [f"{chunk}.ledger.parquet"]
    >>> outputs = {"output": "results/demo/images.zarr", "problems": "results/demo/problems.csv"}
    >>> if __name__ == "__main__":  # doctest: +SKIP
    ...     convert(**inputs, bands=("g", "r", "i"), images=Images(), dask=Dask(), threads=2, **outputs)
    """
    output, problems = Path(output).absolute(), Path(problems).absolute()
    conversion = Conversion(
        catalog=Path(catalog).absolute(),
        bands=tuple(bands),
        images=images,
        work=output.with_name(f"{output.name}.partial"),
    )
    if _is_of_layout(conversion, output):
        conversion = replace(conversion, previous=output)
    chunks = list_chunks(conversion.catalog, tars, ledgers, len(bands))
    n_objects = chunks[-1].last
    n_shards = -(-n_objects // images.shard_size)
    prepare(conversion, n_objects)
    job_logs = output.parent / "logs" / "dask"
    with _client(dask, min(dask.workers or threads, n_shards), job_logs) as client:
        _wait_for_a_worker(client)
        _convert_shards(client, conversion, chunks, n_objects)
    _finish(conversion, n_shards, output, problems)


def list_chunks(catalog: Path, tars: Sequence[str | Path], ledgers: Sequence[str | Path], n_bands: int) -> list[Chunk]:
    """List the catalog rows of each tar.

    Only the sizes of the ledgers are read here; the tasks check that the objects are the same.

    Raises
    ------
    TidalkinError
        If there are not as many objects in the ledgers as in the catalog.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, n_rows in (("catalog", 3), ("a", 4), ("b", 2)):  # ledgers have a row for each of two bands
    ...         pd.DataFrame({"object_id": range(n_rows)}).to_parquet(f"{folder}/{name}.parquet")
    ...     ledgers = [f"{folder}/a.parquet", f"{folder}/b.parquet"]
    ...     chunks = list_chunks(Path(folder) / "catalog.parquet", ["a.tar", "b.tar"], ledgers, n_bands=2)
    >>> [(chunk.first, chunk.last) for chunk in chunks]
    [(0, 2), (2, 3)]
    """
    chunks: list[Chunk] = []
    first = 0
    for tar, ledger in zip(tars, ledgers, strict=True):
        last = first + _parquet(ledger).metadata.num_rows // n_bands
        chunks.append(Chunk(Path(tar).absolute(), Path(ledger).absolute(), first, last))
        first = last
    n_objects = _parquet(catalog).metadata.num_rows
    if first != n_objects or not n_objects:
        raise TidalkinError(
            f"{catalog}: has {n_objects} objects, but the {len(chunks)} ledgers have {first} in {n_bands} bands: "
            "fetch the cutouts of this catalog"
        )
    return chunks


def chunks_of_shards(chunks: Sequence[Chunk], shard_size: int) -> list[tuple[Chunk, ...]]:
    """Return the chunks that overlap each shard.

    Examples
    --------
    >>> tar, ledger = Path("chunk.tar"), Path("chunk.parquet")
    >>> chunks = [Chunk(tar, ledger, 0, 300), Chunk(tar, ledger, 300, 600), Chunk(tar, ledger, 600, 700)]
    >>> [[chunk.first for chunk in overlapping] for overlapping in chunks_of_shards(chunks, shard_size=512)]
    [[0, 300], [300, 600]]
    """
    overlapping: list[list[Chunk]] = [[] for _ in range(0, chunks[-1].last, shard_size)]
    for chunk in chunks:
        for shard in range(chunk.first // shard_size, -(-chunk.last // shard_size)):
            overlapping[shard].append(chunk)
    return [tuple(chunks) for chunks in overlapping]


def prepare(conversion: Conversion, n_objects: int) -> None:
    """Continue an earlier run's store of the same layout, or begin a new one.

    Examples
    --------
    >>> conversion = Conversion(Path("catalog.parquet"), ("g", "i"), Images(size=8), work=Path("images.zarr.partial"))
    >>> prepare(conversion, n_objects=100)
    >>> ImageStore.open(conversion.store).flux.shape
    (100, 2, 8, 8)
    """
    if _is_of_layout(conversion, conversion.store, n_objects):
        _remove_strays(conversion.store)
        return
    with _writing(conversion.work):
        if conversion.work.exists():
            shutil.rmtree(conversion.work)
        conversion.work.mkdir(parents=True)
        new = conversion.work / "new"
        ImageStore.create(new, objects=n_objects, bands=conversion.bands, images=conversion.images)
        new.rename(conversion.store)


def _remove_strays(store: Path) -> None:
    """Remove the files that killed workers had begun: Zarr's and those of `atomic_path`."""
    for stray in store.rglob("*.partial*"):
        stray.unlink(missing_ok=True)


def _is_of_layout(conversion: Conversion, path: Path, n_objects: int | None = None) -> bool:
    """Tell whether a store has the bands, the grid and the rows, if given."""
    try:
        store = ImageStore.open(path)
    except TidalkinError:
        return False
    attributes = store_attributes(conversion.bands, conversion.images)
    return store.group.attrs.asdict() == attributes and n_objects in (None, store.n_objects)


def _finish(conversion: Conversion, n_shards: int, output: Path, problems: Path) -> None:
    """Write the table of problems, put the store in its place, and list its shards."""
    with_image = 0
    shards = []
    with _writing(problems), atomic_path(problems) as partial, partial.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["object_id", "band", "reason"])
        for shard in range(n_shards):
            report = _read_note(conversion.note(shard))
            assert report is not None
            with_image += report.objects_with_image
            shards.append(report.inputs)
            table.writerows([problem.object_id, problem.band, problem.reason] for problem in report.problems)
    if not with_image:
        raise TidalkinError(
            f"{conversion.catalog}: none of its objects has an image: "
            f"the ledgers beside the tars and {problems} say why"
        )
    replaced = output.with_name(f"{output.name}.replaced")
    with _writing(output):
        _remove_strays(conversion.store)
        if replaced.exists():
            shutil.rmtree(replaced)
        if output.exists():
            output.rename(replaced)
        conversion.store.rename(output)
        shutil.rmtree(conversion.work)
        if replaced.exists():
            shutil.rmtree(replaced)
    # Last, since it stands for the whole store.
    content = {"store": store_attributes(conversion.bands, conversion.images), "shards": shards}
    with _writing(output), atomic_path(output.with_suffix(".json")) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")


def _convert_shards(client: Client, conversion: Conversion, chunks: Sequence[Chunk], n_objects: int) -> None:
    """Run one task per shard, and log the progress."""
    size = conversion.images.shard_size
    overlapping = chunks_of_shards(chunks, size)
    shards = range(len(overlapping))
    keys = [f"shard-{shard:05d}" for shard in shards]
    futures = client.map(_task, [conversion] * len(shards), shards, overlapping, key=keys, pure=False)
    try:
        _follow(as_completed(futures, with_results=True), len(shards), n_objects)
    except KilledWorker as error:
        raise TidalkinError(
            f"{conversion.store}: the workers on {error.task} died repeatedly, probably for lack of memory: "
            f"give them more, or make images.shard_size smaller than {size}"
        ) from error


def _task(conversion: Conversion, shard: int, chunks: Sequence[Chunk]) -> ShardReport | TidalkinError:
    """Convert a shard, and return the error for the user.

    Dask would log a raised one with a traceback.
    """
    try:
        return convert_shard(conversion, shard, chunks)
    except TidalkinError as error:
        return error


def _follow(finished: Iterable[tuple[object, ShardReport | TidalkinError]], n_shards: int, n_objects: int) -> None:
    """Log the progress every few seconds."""
    start = said = time.monotonic()
    objects = converted = n_problems = 0
    for done, (_, report) in enumerate(finished, 1):
        if isinstance(report, TidalkinError):
            raise report
        objects += report.objects
        converted += 0 if report.kept else report.objects
        for problem in report.problems[: max(0, PROBLEMS_LOGGED - n_problems)]:
            logger.warning("object %d, band %s: %s", problem.object_id, problem.band, problem.reason)
        n_problems += len(report.problems)
        now = time.monotonic()
        if now - said >= SECONDS_BETWEEN_PROGRESS or done == n_shards:
            said = now
            rate = converted / max(now - start, 1e-9)
            left = (n_objects - objects) / rate if rate else 0.0
            logger.info("%d of %d shards, %.0f objects/s, %.0f s left", done, n_shards, rate, left)
    if n_problems > PROBLEMS_LOGGED:
        logger.warning("%d cutouts could not be used; the table of problems lists them all", n_problems)
