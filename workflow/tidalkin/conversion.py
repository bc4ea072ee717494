"""Cutouts to image store: one Dask graph, one task per shard, and a restart that keeps what is finished.

A task reads its catalog rows, their lines of the ledgers and their FITS files from the tars that overlap, and writes
one whole shard; no two tasks touch one file, and none needs what another made. The driver holds nothing that grows with
the catalog but the list of chunks and shards.

Until it is whole, the store is built in ``<output>.partial``, with a note for each finished shard that says what went
into it. Started again, a task whose note still holds does nothing. The last step is to rename the store to its place.
The layout of the store is in `tidalkin.images`.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from dask import config as dask_config
from distributed import Client, KilledWorker, LocalCluster, as_completed

import tidalkin
from tidalkin import images as store_layout
from tidalkin.config import Dask, Images
from tidalkin.cutouts import place_on_grid, read_cutout
from tidalkin.errors import TidalkinError
from tidalkin.files import written_whole
from tidalkin.images import Shard
from tidalkin.sources.chunk import ChunkTar, member_name

logger = logging.getLogger("tidalkin.conversion")

SECONDS_BETWEEN_PROGRESS = 5.0
SECONDS_BETWEEN_WARNINGS = 60.0
PROBLEMS_LOGGED = 20

# glibc's allocator in our workers. Dask has it return all memory that is free, at once, so that each image's pages are
# fetched from the system anew: a third of a worker's time. Elsewhere than in glibc this does nothing.
ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": 256 * 2**20, "MALLOC_MMAP_THRESHOLD_": 32 * 2**20}


@dataclass(frozen=True)
class Chunk:
    """The cutouts of successive catalog rows."""

    tar: Path
    ledger: Path
    first: int
    """The chunk's first catalog row."""
    last: int
    """One past its last."""


@dataclass(frozen=True)
class Conversion:
    """What the tasks of one conversion have in common."""

    catalog: Path
    bands: tuple[str, ...]
    images: Images
    work: Path
    """The folder the store is built in."""

    @property
    def store(self) -> Path:
        """The store, until it is whole."""
        return self.work / "store"

    def note(self, shard: int) -> Path:
        """The note that a shard is finished."""
        return self.work / "finished" / f"{shard:05d}.json"


@dataclass(frozen=True)
class Problem:
    """A cutout that the ledger calls `ok` and that cannot be used all the same."""

    object_id: int
    band: str
    reason: str


@dataclass(frozen=True)
class ShardReport:
    """What became of one shard: this is what its note holds."""

    inputs: str
    """Digest of all that went into the shard."""
    objects: int
    objects_with_image: int
    problems: tuple[Problem, ...]
    kept: bool = False
    """Whether an earlier run had finished it."""


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

    With ``dask.cluster: local`` this starts processes that import the calling script again: guard its call with
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
        The store. What is finished of it stays in ``<output>.partial`` when the conversion is interrupted.
    problems : path
        CSV table (object_id, band, reason) of the cutouts that could not be used. Their pixels are missing.

    Raises
    ------
    TidalkinError
        If ledgers and catalog do not belong together, a tar cannot be read, the disk is full, a worker dies again and
        again, or no object has an image.
    """
    output, problems = Path(output).absolute(), Path(problems).absolute()
    conversion = Conversion(
        catalog=Path(catalog).absolute(),
        bands=tuple(bands),
        images=images,
        work=output.with_name(f"{output.name}.partial"),
    )
    chunks = list_chunks(conversion.catalog, tars, ledgers, len(bands))
    n_objects = chunks[-1].last
    n_shards = -(-n_objects // images.shard_size)
    prepare(conversion, n_objects)
    job_logs = output.parent / "logs" / "dask"
    with _client(dask, min(dask.workers or threads, n_shards), job_logs) as client:
        _wait_for_a_worker(client)
        _run(client, conversion, chunks, n_objects)
    _finish(conversion, n_shards, output, problems)


def list_chunks(catalog: Path, tars: Sequence[str | Path], ledgers: Sequence[str | Path], n_bands: int) -> list[Chunk]:
    """Which catalog rows each tar holds.

    Only the sizes of the ledgers are read here; the tasks check that the objects are the same.

    Raises
    ------
    TidalkinError
        If there are not as many objects in the ledgers as in the catalog.
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
    """The chunks that overlap each shard."""
    overlapping: list[list[Chunk]] = [[] for _ in range(0, chunks[-1].last, shard_size)]
    for chunk in chunks:
        for shard in range(chunk.first // shard_size, -(-chunk.last // shard_size)):
            overlapping[shard].append(chunk)
    return [tuple(chunks) for chunks in overlapping]


# --- start and end -----------------------------------------------------------------------------------------------


def prepare(conversion: Conversion, n_objects: int) -> None:
    """Go on with an earlier run's store where it is of the same layout, else begin a new one."""
    if _is_of_layout(conversion, n_objects):
        for stray in conversion.store.rglob("*.partial"):  # what a killed worker was writing
            stray.unlink()
        return
    with _writing(conversion.work):
        if conversion.work.exists():
            shutil.rmtree(conversion.work)
        (conversion.work / "finished").mkdir(parents=True)
        new = conversion.work / "new"
        store_layout.create_store(new, objects=n_objects, bands=conversion.bands, images=conversion.images)
        new.rename(conversion.store)


def _is_of_layout(conversion: Conversion, n_objects: int) -> bool:
    if not conversion.store.exists():
        return False
    store = store_layout.open_store(conversion.store)
    attributes = store_layout.store_attributes(conversion.bands, conversion.images)
    return store.attrs.asdict() == attributes and store_layout.array_of(store, "object_id").shape == (n_objects,)


def _finish(conversion: Conversion, n_shards: int, output: Path, problems: Path) -> None:
    """Write the table of problems and put the store in its place."""
    with_image = 0
    with _writing(problems), written_whole(problems) as partial, partial.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["object_id", "band", "reason"])
        for shard in range(n_shards):
            report = _read_note(conversion.note(shard))
            assert report is not None
            with_image += report.objects_with_image
            table.writerows([problem.object_id, problem.band, problem.reason] for problem in report.problems)
    if not with_image:
        raise TidalkinError(
            f"{conversion.catalog}: none of its objects has an image: "
            f"the ledgers beside the tars and {problems} say why"
        )
    with _writing(output):
        if output.exists():
            shutil.rmtree(output)
        conversion.store.rename(output)
        shutil.rmtree(conversion.work)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say in a sentence what could not be written."""
    try:
        yield
    except OSError as error:
        raise TidalkinError(
            f"{error.filename or path}: cannot be written ({error.strerror or error}): make room and start again, "
            "which goes on with the shards that are finished"
        ) from error


# --- the graph ---------------------------------------------------------------------------------------------------


def _run(client: Client, conversion: Conversion, chunks: Sequence[Chunk], n_objects: int) -> None:
    """One task per shard; say how far they are."""
    size = conversion.images.shard_size
    overlapping = chunks_of_shards(chunks, size)
    shards = range(len(overlapping))
    keys = [f"shard-{shard:05d}" for shard in shards]
    futures = client.map(_task, [conversion] * len(shards), shards, overlapping, key=keys, pure=False)
    try:
        _follow(as_completed(futures, with_results=True), len(shards), n_objects)
    except KilledWorker as error:
        raise TidalkinError(
            f"{conversion.store}: the workers on {error.task} died again and again, as they do without memory: "
            f"give them more, or make images.shard_size smaller than {size}"
        ) from error


def _task(conversion: Conversion, shard: int, chunks: Sequence[Chunk]) -> ShardReport | TidalkinError:
    """`convert_shard`, its sentence returned: raised, Dask would log it with a traceback."""
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


@contextmanager
def _client(dask: Dask, n_workers: int, job_logs: Path) -> Iterator[Client]:
    """A client of the cluster that the configuration names."""
    if dask.cluster == "address":
        try:
            client = Client(dask.address)
        except (OSError, ValueError) as error:
            raise TidalkinError(
                f"compute.dask.address {dask.address}: no Dask scheduler answers there ({error})"
            ) from error
        with client:
            yield client
    elif dask.cluster == "slurm":
        with _slurm_cluster(dask, n_workers, job_logs) as cluster, Client(cluster) as client:
            yield client
    else:
        # Without a memory limit of Dask's own: a task holds one shard and nothing that could be spilled to disk.
        with (
            dask_config.set({f"distributed.nanny.pre-spawn-environ.{name}": ALLOCATOR[name] for name in ALLOCATOR}),
            LocalCluster(
                n_workers=n_workers, threads_per_worker=1, processes=True, memory_limit=None, dashboard_address=":0"
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client


def _wait_for_a_worker(client: Client) -> None:
    """A cluster's queue may take hours, and its jobs may fail: say so instead of being silent."""
    while True:
        try:
            return client.wait_for_workers(1, timeout=SECONDS_BETWEEN_WARNINGS)
        except TimeoutError:
            logger.warning(
                "still no Dask worker at %s: look at the cluster's queue and job logs", client.scheduler.addr
            )


@contextmanager
def _slurm_cluster(dask: Dask, n_workers: int, job_logs: Path) -> Iterator[object]:
    # Imported here: it brings its own configuration, and most runs have no SLURM.
    from dask_jobqueue import SLURMCluster

    # The workers find this package where the driver found it, installed or not.
    package = Path(tidalkin.__file__).resolve().parents[1]
    ours = {"cores": 1, "processes": 1, "memory": "4GiB", "scheduler_options": {"dashboard_address": ":0"}}
    job: dict[str, Any] = ours | {"log_directory": str(job_logs)} | dask.slurm
    exports = [
        f'export PYTHONPATH="{package}:$PYTHONPATH"',
        *(f"export {name}={ALLOCATOR[name]}" for name in ALLOCATOR),
    ]
    job["job_script_prologue"] = [*exports, *job.get("job_script_prologue", [])]
    try:
        cluster = SLURMCluster(**job)
    except (TypeError, ValueError) as error:
        raise TidalkinError(f"config: compute.dask.slurm: {error}") from error
    with cluster:
        cluster.adapt(minimum=n_workers, maximum=n_workers)  # unlike `scale`, this replaces jobs that end or die
        yield cluster


# --- one shard ---------------------------------------------------------------------------------------------------


def convert_shard(conversion: Conversion, shard: int, chunks: Sequence[Chunk]) -> ShardReport:
    """Convert the cutouts of one shard, if it is not finished yet.

    Parameters
    ----------
    conversion : Conversion
        What all tasks have in common.
    shard : int
        Which shard.
    chunks : sequence of Chunk
        Those that overlap its rows, in order.

    Raises
    ------
    TidalkinError
        If an input cannot be read or the shard cannot be written.
    """
    store = store_layout.open_store(conversion.store)
    rows = store_layout.shard_rows(store, shard)
    objects = _read_objects(conversion, rows)
    ledger = _read_ledgers(chunks, rows, objects["object_id"].to_numpy(), conversion.bands)
    inputs = _digest(objects, ledger)
    note, files = conversion.note(shard), store_layout.shard_files(conversion.store, shard)
    report = _read_note(note)
    if report and report.inputs == inputs and all(file.exists() for file in files):
        return ShardReport(**{**vars(report), "kept": True})
    note.unlink(missing_ok=True)
    content, problems = fill_shard(conversion, objects, ledger, chunks, rows.start)
    report = ShardReport(
        inputs=inputs,
        objects=len(objects),
        objects_with_image=int((content.good_fraction > 0).any(axis=1).sum()),
        problems=tuple(problems),
    )
    with _writing(files[0]):
        _write(conversion.store, shard, content)
    with _writing(note), written_whole(note) as partial:
        partial.write_text(json.dumps(asdict(report)))
    return report


def fill_shard(
    conversion: Conversion, objects: pd.DataFrame, ledger: pd.DataFrame, chunks: Sequence[Chunk], first: int
) -> tuple[Shard, list[Problem]]:
    """Read all cutouts of one shard.

    Parameters
    ----------
    conversion : Conversion
        Bands, grid and bad mask planes.
    objects : DataFrame
        The shard's catalog rows: object_id, ra, dec and, where known, psf_fwhm_<band>.
    ledger : DataFrame
        Their ledger rows, object by object, band by band.
    chunks : sequence of Chunk
        Those that overlap, in order.
    first : int
        Catalog row of the first object.

    Returns
    -------
    Shard
        With all pixels missing where there is no usable cutout.
    list of Problem
        Of the cutouts that should be usable.
    """
    bands, images = conversion.bands, conversion.images
    shape = (len(objects), len(bands))
    shard = Shard(
        flux=np.full((*shape, images.size, images.size), np.nan, np.float32),
        sky_sigma=np.full(shape, np.nan, np.float32),
        psf_fwhm=_known_psf_fwhm(objects, bands),
        good_fraction=np.zeros(shape, np.float32),
        object_id=objects["object_id"].to_numpy(np.int64),
    )
    positions = objects[["ra", "dec"]].to_numpy(np.float64)
    is_ok = (ledger["status"] == "ok").to_numpy().reshape(shape)
    problems = []
    for chunk in chunks:
        start, stop = max(chunk.first - first, 0), min(chunk.last - first, len(objects))
        with ChunkTar(chunk.tar) as cutouts:
            for row, band in zip(*np.nonzero(is_ok[start:stop]), strict=True):
                object_id, name = int(shard.object_id[start + row]), bands[band]
                at = (start + row, band)
                try:
                    content = cutouts.read(object_id, name)
                    file = f"{chunk.tar.name}: {member_name(object_id, name)}"
                    image = read_band(content, file, name, positions[at[0]], images)
                except TidalkinError as error:
                    problems.append(Problem(object_id, name, str(error)))
                    continue
                shard.flux[at] = image.flux
                shard.sky_sigma[at] = image.sky_sigma
                shard.good_fraction[at] = np.isfinite(image.flux).mean()
                if np.isnan(shard.psf_fwhm[at]):
                    shard.psf_fwhm[at] = image.psf_fwhm
    return shard, problems


@dataclass(frozen=True)
class BandImage:
    """One object in one band, as the store holds it."""

    flux: npt.NDArray[np.float32]
    """(y, x), nanojansky."""
    sky_sigma: float
    psf_fwhm: float


def read_band(content: bytes, file: str, band: str, position: npt.NDArray[np.float64], images: Images) -> BandImage:
    """One cutout on the store's grid.

    Parameters
    ----------
    content : bytes
        The FITS file.
    file : str
        What to call it in an error.
    band : str
        The band it should be of.
    position : (2,) array
        Right ascension and declination of the object, degrees.
    images : Images
        Grid and bad mask planes.

    Raises
    ------
    TidalkinError
        If it cannot be read, is of another band or does not show the object's position.
    """
    cutout = read_cutout(content, file, images.bad_mask_planes, images.bad_mask_bits)
    if cutout.band not in (None, band):
        raise TidalkinError(f"{file}: is of band {cutout.band} by its FILTER: check the names of the files")
    flux = place_on_grid(cutout.flux, cutout.wcs, position[0], position[1], images.size)
    if np.isnan(flux).all() and not np.isnan(cutout.flux).all():
        raise TidalkinError(
            f"{file}: has no good pixel near the object at ra {position[0]:.6f}, dec {position[1]:.6f}: "
            "check that it is the image of this object"
        )
    return BandImage(flux, store_layout.sky_sigma(cutout.flux, cutout.variance), cutout.psf_fwhm)


def _known_psf_fwhm(objects: pd.DataFrame, bands: Sequence[str]) -> npt.NDArray[np.float32]:
    """(object, band), arcsec, from the catalog; NaN where it does not tell."""
    known = np.full((len(objects), len(bands)), np.nan, np.float32)
    for i, band in enumerate(bands):
        if f"psf_fwhm_{band}" in objects:
            column = objects[f"psf_fwhm_{band}"].to_numpy(np.float32)
            known[:, i] = np.where(column > 0, column, np.nan)
    return known


def _write(path: Path, shard: int, content: Shard) -> None:
    """Write one shard, to the disk and not only to the system's memory: its note must not outlive it."""
    # One core per worker: the cluster has as many workers as there are cores for them.
    with zarr.config.set({"threading.max_workers": 1}):
        store_layout.write_shard(zarr.open_group(path, mode="r+"), shard, content)
    for file in store_layout.shard_files(path, shard):
        with file.open("rb") as written:
            os.fsync(written.fileno())


# --- what goes into a shard --------------------------------------------------------------------------------------


def _parquet(path: str | Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise TidalkinError(f"{path}: cannot be read as Parquet ({error}): delete it, to have it made again") from None


def _read_rows(path: Path, first: int, last: int, columns: Sequence[str]) -> pd.DataFrame:
    """Some rows of a Parquet file, without reading the others' row groups."""
    file = _parquet(path)
    parts, start = [], 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        if start < last and stop > first:
            rows = file.read_row_group(group, columns=list(columns))
            parts.append(rows.slice(max(first - start, 0), min(last, stop) - max(first, start)))
        start = stop
    return pa.concat_tables(parts).to_pandas()


def _read_objects(conversion: Conversion, rows: slice) -> pd.DataFrame:
    """The shard's catalog rows, with the columns that matter here."""
    names = set(_parquet(conversion.catalog).schema_arrow.names)
    seeing = [f"psf_fwhm_{band}" for band in conversion.bands if f"psf_fwhm_{band}" in names]
    return _read_rows(conversion.catalog, rows.start, rows.stop, ["object_id", "ra", "dec", *seeing])


def _read_ledgers(
    chunks: Sequence[Chunk], rows: slice, object_ids: npt.NDArray[np.int64], bands: Sequence[str]
) -> pd.DataFrame:
    """The ledger rows of the shard's objects, checked to be theirs."""
    parts = []
    for chunk in chunks:
        first, last = max(rows.start, chunk.first), min(rows.stop, chunk.last)
        ledger = _read_rows(
            chunk.ledger,
            (first - chunk.first) * len(bands),
            (last - chunk.first) * len(bands),
            ["object_id", "band", "status", "checksum"],
        )
        expected = np.repeat(object_ids[first - rows.start : last - rows.start], len(bands))
        same = np.array_equal(ledger["object_id"], expected) and list(ledger["band"]) == [*bands] * (last - first)
        if not same:
            raise TidalkinError(
                f"{chunk.ledger}: does not list the objects {expected[0]} to {expected[-1]} of the catalog in bands "
                f"{', '.join(bands)}: delete it and its tar, to have them fetched again"
            )
        parts.append(ledger)
    return pd.concat(parts, ignore_index=True)


def _digest(objects: pd.DataFrame, ledger: pd.DataFrame) -> str:
    """Digest of all that decides a shard, besides what the store's attributes hold."""
    digest = hashlib.sha256()
    for table in (objects, ledger):
        digest.update(",".join(table.columns).encode())
        digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _read_note(path: Path) -> ShardReport | None:
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    return ShardReport(**{**content, "problems": tuple(Problem(**problem) for problem in content["problems"])})
