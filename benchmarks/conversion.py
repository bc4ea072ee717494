"""Compare the speed of the conversion with a plain loop and with reading the bytes.

    python benchmarks/conversion.py

The plain loop uses astropy and Zarr. Everything runs on the same cutouts, which are written here in HSC's layout
(galaxies and noise with image, mask and variance) and are still in the system's memory. Ratios therefore hold on any
machine, and those of CPU time even on a busy one.

The plain loop and our one-core row run on one core without Dask. The Dask rows are `tidalkin.images.convert`, as the
workflow calls it. Each converts all cutouts, and a quarter of them. The straight line through both separates the
start-up (starting the workers and importing libraries there) from the rate. All rows take turns, and the least
disturbed turn counts. If the column `cores got` is below the number of workers, other processes had the cores, or the
workers waited. Then only the column of CPU time is meaningful.
"""

from __future__ import annotations

import io
import math
import os
import resource
import shutil
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer
import zarr
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.wcs import WCS
from rich.console import Console
from rich.table import Table

from tidalkin.catalog.read import split_catalog, write_catalog
from tidalkin.config import BANDS, Dask, Images
from tidalkin.cutouts.base import Cutout
from tidalkin.cutouts.read import NANOJANSKY_OF_MAGNITUDE_ZERO
from tidalkin.cutouts.write import write_cutout
from tidalkin.download.ledger import read_ledger
from tidalkin.download.tar import member_name, write_chunk
from tidalkin.images.convert import chunks_of_shards, convert, list_chunks, prepare
from tidalkin.images.inputs import Conversion
from tidalkin.images.shard import convert_shard
from tidalkin.images.store import ImageStore

FLUXMAG0 = 10 ** (0.4 * 27.0)
SKY_SIGMA = dict(zip(BANDS, (0.03, 0.05, 0.06, 0.12, 0.25), strict=True))  # counts, about HSC-SSP Wide's
MASK_PLANES = {"BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "DETECTED": 5, "NO_DATA": 8}
BAD_PLANES = ("BAD", "SAT", "NO_DATA")
SHARDS_PER_TAR = 2
PLAIN_CHUNK = 32  # objects that the plain loop collects before it writes them, as advised for Zarr's chunks


@dataclass(frozen=True)
class Cutouts:
    """The input, which is catalog, tars and ledgers in one folder."""

    catalog: Path
    objects: pd.DataFrame
    tars: list[Path]
    ledgers: list[Path]
    size: int

    def first(self, n_tars: int) -> Cutouts:
        """Take the cutouts of the first few tars, with a catalog of their own."""
        tars, ledgers = self.tars[:n_tars], self.ledgers[:n_tars]
        objects = self.objects.iloc[: sum(len(read_ledger(ledger)) for ledger in ledgers) // len(BANDS)]
        catalog = self.catalog.with_stem(f"{self.catalog.stem}_of_{n_tars}")
        write_catalog(objects, catalog)
        return Cutouts(catalog, objects, tars, ledgers, self.size)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the store's pixels, not compressed."""
        return len(self.objects) * len(BANDS) * self.size**2 * 4


def make_cutouts(folder: Path, n_objects: int, size: int, chunk_size: int) -> Cutouts:
    """Write galaxies of different brightness and size in noise.

    Each cutout is two pixels wider than the store's grid.
    """
    random = np.random.default_rng(1)
    objects = pd.DataFrame(
        {
            "object_id": np.arange(n_objects) + 10**15,
            "ra": random.uniform(149, 151, n_objects),
            "dec": random.uniform(1, 3, n_objects),
        }
    )
    cutouts = Cutouts(folder / "catalog.parquet", objects, [], [], size)
    write_catalog(objects, cutouts.catalog)
    for name, rows in split_catalog(objects, chunk_size).items():
        cutouts.tars.append(folder / f"{name}.tar")
        cutouts.ledgers.append(folder / f"{name}.ledger.parquet")
        write_chunk(_deliveries(rows, size + 2, random), rows, BANDS, cutouts.tars[-1], cutouts.ledgers[-1])
    return cutouts


def _deliveries(rows: pd.DataFrame, side: int, random: np.random.Generator) -> Iterator[Cutout]:
    y, x = np.mgrid[:side, :side].astype(np.float32) - (side - 1) / 2
    radius = np.hypot(x, y)
    for object_id, ra, dec in zip(rows["object_id"].tolist(), rows["ra"].tolist(), rows["dec"].tolist(), strict=True):
        light = np.float32(random.uniform(1, 30)) * np.exp(-radius / np.float32(random.uniform(3, 12)))
        mask = np.where(light > 1, 1 << MASK_PLANES["DETECTED"], 0).astype(np.int32)
        for band, sigma in SKY_SIGMA.items():
            image = light + np.float32(sigma) * random.standard_normal((side, side), dtype=np.float32)
            variance = np.float32(sigma**2) + light / np.float32(1000)
            content = write_cutout(
                image, mask, variance, band=band, ra=ra, dec=dec, fluxmag0=FLUXMAG0, mask_planes=MASK_PLANES
            )
            yield Cutout(object_id, band, "ok", content)


# --- the compared programs ---------------------------------------------------------------------------------------


def read_bytes(cutouts: Cutouts) -> None:
    """Read all bytes of all tars, which sets the limit."""
    buffer = bytearray(1 << 20)
    for tar in cutouts.tars:
        with tar.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def plain_loop(cutouts: Cutouts, path: Path) -> None:
    """Open each file with astropy, cut it out, and write it to a Zarr array."""
    n_objects, size = len(cutouts.objects), cutouts.size
    frame = (len(BANDS), size, size)
    store = zarr.create_group(path)
    flux = store.create_array(
        "flux", shape=(n_objects, *frame), chunks=(PLAIN_CHUNK, *frame), dtype="f4", fill_value=math.nan
    )
    sky_sigma = store.create_array("sky_sigma", shape=(n_objects, len(BANDS)), dtype="f4")
    columns = (cutouts.objects[name].tolist() for name in ("object_id", "ra", "dec"))
    rows = list(zip(*columns, strict=True))
    with ExitStack() as stack:
        tars = [stack.enter_context(tarfile.open(tar)) for tar in cutouts.tars]
        tar_of = {name: tar for tar in tars for name in tar.getnames()}
        for start in range(0, n_objects, PLAIN_CHUNK):
            block = rows[start : start + PLAIN_CHUNK]
            pixels = np.empty((len(block), *frame), np.float32)
            noise = np.empty((len(block), len(BANDS)), np.float32)
            for i, (object_id, ra, dec) in enumerate(block):
                for j, band in enumerate(BANDS):
                    name = member_name(object_id, band)
                    content = tar_of[name].extractfile(name)
                    assert content is not None
                    pixels[i, j], noise[i, j] = _astropy_band(content.read(), ra, dec, size)
            flux[start : start + len(block)] = pixels
            sky_sigma[start : start + len(block)] = noise


def _astropy_band(content: bytes, ra: float, dec: float, size: int) -> tuple[npt.NDArray[np.float32], float]:
    with fits.open(io.BytesIO(content)) as hdus:
        image, mask, variance = (hdus[i].data for i in (1, 2, 3))
        bad = np.bitwise_or.reduce([1 << hdus[2].header[f"MP_{plane}"] for plane in BAD_PLANES])
        factor = NANOJANSKY_OF_MAGNITUDE_ZERO / hdus[0].header["FLUXMAG0"]
        flux = np.where((mask & bad) != 0, np.nan, image * factor)
        cutout = Cutout2D(
            flux,
            SkyCoord(ra, dec, unit="deg"),
            size,
            wcs=WCS(hdus[1].header),
            mode="partial",
            fill_value=np.nan,
        )
        return cutout.data, float(np.sqrt(np.nanmedian(variance))) * factor


def one_core(cutouts: Cutouts, images: Images, work: Path) -> None:
    """Run our tasks, one after the other."""
    shared = Conversion(cutouts.catalog, BANDS, images, work)
    chunks = list_chunks(cutouts.catalog, cutouts.tars, cutouts.ledgers, len(BANDS))
    prepare(shared, len(cutouts.objects))
    for shard, overlapping in enumerate(chunks_of_shards(chunks, images.shard_size)):
        convert_shard(shared, shard, overlapping)


def with_dask(cutouts: Cutouts, images: Images, workers: int, output: Path) -> None:
    """Convert as the workflow does, including the start of the workers."""
    convert(
        catalog=cutouts.catalog,
        tars=cutouts.tars,
        ledgers=cutouts.ledgers,
        bands=BANDS,
        images=images,
        dask=Dask(workers=workers),
        threads=workers,
        output=output,
        problems=output.with_suffix(".problems.csv"),
    )


def read_shards(path: Path) -> None:
    """Read all images back, shard by shard."""
    store = ImageStore.open(path)
    for shard in range(store.n_shards):
        store.read(shard)


def read_rows(path: Path, rows: Sequence[int]) -> None:
    """Read single images from anywhere in the store, which is the slow way."""
    flux = ImageStore.open(path).flux
    for row in rows:
        flux[row]


# --- the table ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Taken:
    """Cost of one call, including the processes that it started and ended."""

    clock: float
    """Wall-clock time, s."""
    cpu: float
    """Processor time, s."""
    faults: float
    """Page faults."""


def taken(function: Callable[..., None], *arguments: Any) -> Taken:
    """Time one call, and count its page faults."""
    clock, cpu, faults = time.perf_counter(), sum(os.times()[:4]), _page_faults()
    function(*arguments)
    return Taken(time.perf_counter() - clock, sum(os.times()[:4]) - cpu, _page_faults() - faults)


def _page_faults() -> int:
    return sum(resource.getrusage(who).ru_minflt for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def least(turns: Sequence[Taken]) -> Taken:
    """Estimate the undisturbed cost, because other work on the machine only adds to it."""
    return Taken(min(turn.clock for turn in turns), min(turn.cpu for turn in turns), min(turn.faults for turn in turns))


@contextmanager
def one_core_only() -> Iterator[None]:
    """Keep this thread, and those it starts meanwhile, on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


@dataclass(frozen=True)
class Scaling:
    """Fixed cost and cost per object of a conversion by some number of workers."""

    workers: int
    fixed: Taken
    per_object: Taken

    @classmethod
    def between(cls, workers: int, small: tuple[int, Taken], large: tuple[int, Taken]) -> Scaling:
        """Fit the straight line through conversions of few and of many objects."""
        (few, less), (many, more) = small, large
        more_objects = many - few
        per_object = Taken(
            (more.clock - less.clock) / more_objects,
            (more.cpu - less.cpu) / more_objects,
            (more.faults - less.faults) / more_objects,
        )
        fixed = Taken(
            less.clock - few * per_object.clock,
            less.cpu - few * per_object.cpu,
            less.faults - few * per_object.faults,
        )
        return cls(workers, fixed, per_object)


def measure_scaling(
    cutouts: Cutouts, images: Images, worker_counts: Sequence[int], rounds: int, output: Path
) -> list[Scaling]:
    """Measure all numbers of workers and both sizes in turns; the least disturbed turn counts."""
    few = cutouts.first(len(cutouts.tars) // 4)
    turns: dict[tuple[int, int], list[Taken]] = {}
    for _ in range(rounds):
        for workers in worker_counts:
            for part in (few, cutouts):
                time_taken = taken(with_dask, part, images, workers, output)
                turns.setdefault((workers, len(part.objects)), []).append(time_taken)
    best = {key: least(times) for key, times in turns.items()}
    small, large = len(few.objects), len(cutouts.objects)
    return [
        Scaling.between(workers, (small, best[workers, small]), (large, best[workers, large]))
        for workers in worker_counts
    ]


def size_on_disk(path: Path) -> int:
    """Count the bytes of all files below a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def table(title: str, *columns: str) -> Table:
    """Make an empty table of numbers under names."""
    empty = Table(title=title)
    for i, column in enumerate(columns):
        empty.add_column(column, justify="right" if i else "left")
    return empty


def one_core_table(title: str, n_objects: int, raw: Taken, loop: Taken, ours: Taken) -> Table:
    """Make the table of the one-core rows."""
    rows = table(title, "one core", "objects/s", "of plain", "of bytes", "of plain, CPU time")
    for name, time_taken in (
        ("bytes: read the tars, no more", raw),
        ("plain: astropy and Zarr", loop),
        ("tidalkin's tasks, without Dask", ours),
    ):
        clock, cpu = time_taken.clock, time_taken.cpu
        of_plain = f"{loop.cpu / cpu:.2f}" if time_taken is not raw else ""  # too short for the clock of the cores
        rows.add_row(
            name, f"{n_objects / clock:.0f}", f"{loop.clock / clock:.2f}", f"{raw.clock / clock:.3f}", of_plain
        )
    return rows


def scaling_table(title: str, scalings: Sequence[Scaling]) -> Table:
    """Make the table of start-up, rate and speed-up over one worker."""
    rows = table(
        title,
        "workers",
        "start-up, s",
        "start-up, CPU s",
        "then objects/s",
        "per worker",
        "speed-up",
        "CPU ms per object",
        "page faults per object",
        "cores got",
    )
    for scaling in scalings:
        fixed, each = scaling.fixed, scaling.per_object
        rows.add_row(
            str(scaling.workers),
            f"{fixed.clock:.1f}",
            f"{fixed.cpu:.1f}",
            f"{1 / each.clock:.0f}",
            f"{1 / each.clock / scaling.workers:.0f}",
            f"{scalings[0].per_object.clock / each.clock:.2f}",
            f"{1e3 * each.cpu:.2f}",
            f"{each.faults:.0f}",
            f"{each.cpu / each.clock:.2f}",
        )
    return rows


def main(
    objects: Annotated[int, typer.Option(min=1, help="Galaxies; rounded up to eight shards for each worker.")] = 2048,
    size: Annotated[int, typer.Option(min=8, help="Side of the stored images, pixels.")] = 128,
    workers: Annotated[int, typer.Option(min=1, help="Largest number of workers; the others are its halves.")] = len(
        os.sched_getaffinity(0)
    ),
    shard_size: Annotated[int, typer.Option(min=1, help="Galaxies in a shard; a tar holds two shards.")] = 128,
    rounds: Annotated[int, typer.Option(min=1, help="Turns; the least disturbed counts.")] = 3,
    folder: Annotated[Path | None, typer.Option(help="Where to write the files; a temporary folder.")] = None,
) -> None:
    """Measure and print the tables."""
    images = Images(size=size, shard_size=shard_size, chunk_size=min(32, shard_size))
    zarr.config.set({"threading.max_workers": 1})  # the plain loop also has one core
    warnings.simplefilter("ignore", fits.verify.VerifyWarning)
    console = Console(width=120)
    worker_counts = sorted({max(1, workers >> i) for i in range(workers.bit_length())})
    work = Path(tempfile.mkdtemp(dir=folder))
    try:
        # In the small conversion of a quarter of the tars, too, each worker has the same number of shards.
        tar_size = SHARDS_PER_TAR * shard_size
        step = 4 * workers * tar_size
        cutouts = make_cutouts(work, -(-objects // step) * step, size, tar_size)
        few = cutouts.first(2)
        pixels = f"{len(BANDS)} bands, {size} x {size} pixels"
        with one_core_only():
            one_core_turns = [
                (
                    taken(read_bytes, few),
                    taken(plain_loop, few, work / f"plain{turn}.zarr"),
                    taken(one_core, few, images, work / f"ours{turn}.partial"),
                )
                for turn in range(rounds)
            ]
        raw, loop, ours = map(least, zip(*one_core_turns, strict=True))
        console.print(one_core_table(f"{len(few.objects)} galaxies, {pixels}", len(few.objects), raw, loop, ours))
        scalings = measure_scaling(cutouts, images, worker_counts, rounds, work / "images.zarr")
        console.print(scaling_table(f"Dask: {len(cutouts.objects)} galaxies, and a quarter of them", scalings))

        n_objects, pixel_bytes = len(cutouts.objects), cutouts.pixel_bytes
        store = size_on_disk(work / "images.zarr")
        plain = size_on_disk(work / "plain0.zarr")
        console.print(
            f"store: {store / pixel_bytes:.3f} of its pixels' bytes, "
            f"{store / sum(tar.stat().st_size for tar in cutouts.tars):.3f} of the tars' "
            f"(plain Zarr defaults: {plain / few.pixel_bytes:.3f} of the pixels' bytes)"
        )
        rows = [int(row) for row in np.random.default_rng(2).integers(0, n_objects, 64)]
        shards = taken(read_shards, work / "images.zarr")
        single = taken(read_rows, work / "images.zarr", rows)
        console.print(
            f"reading back: {pixel_bytes / shards.clock / 1e6:.0f} MB/s by whole shards, "
            f"{pixel_bytes / n_objects * len(rows) / single.clock / 1e6:.0f} MB/s by single random images"
        )
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    typer.run(main)
