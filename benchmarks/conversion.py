"""How fast cutouts become an image store, beside a plain loop of astropy and Zarr, and beside reading the bytes alone.

    python benchmarks/conversion.py

All in one run on the same cutouts, written here in HSC's layout (galaxies and noise with image, mask and variance) and
still in the system's memory, so that the ratios hold on any machine; those of CPU time hold also on a busy one. The
plain loop and our one-core row use one core and no Dask; the Dask row is `tidalkin.conversion.convert` as the workflow
calls it, on workers that are already up.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
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
from distributed import LocalCluster
from rich.console import Console
from rich.table import Table

from tidalkin import conversion
from tidalkin.catalog import split_catalog, write_catalog
from tidalkin.config import BANDS, Dask, Images
from tidalkin.cutouts import NANOJANSKY_OF_MAGNITUDE_ZERO, write_cutout
from tidalkin.images import array_of, open_store, read_shard, shard_count
from tidalkin.sources import Delivery
from tidalkin.sources.chunk import member_name, write_chunk

FLUXMAG0 = 10 ** (0.4 * 27.0)
SKY_SIGMA = dict(zip(BANDS, (0.03, 0.05, 0.06, 0.12, 0.25), strict=True))  # counts, about HSC-SSP Wide's
MASK_PLANES = {"BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "DETECTED": 5, "NO_DATA": 8}
BAD_PLANES = ("BAD", "SAT", "NO_DATA")
PLAIN_CHUNK = 32  # objects the plain loop collects before it writes them, as a person would who knows Zarr's chunks


@dataclass(frozen=True)
class Cutouts:
    """The input: catalog, tars and ledgers in one folder."""

    catalog: Path
    objects: pd.DataFrame
    tars: list[Path]
    ledgers: list[Path]
    size: int

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the store's pixels, not compressed."""
        return len(self.objects) * len(BANDS) * self.size**2 * 4


def make_cutouts(folder: Path, n_objects: int, size: int, chunk_size: int = 500) -> Cutouts:
    """Galaxies of different brightness and size in noise, each two pixels wider than the store's grid."""
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


def _deliveries(rows: pd.DataFrame, side: int, random: np.random.Generator) -> Iterator[Delivery]:
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
            yield Delivery(object_id, band, "ok", content)


# --- what is compared --------------------------------------------------------------------------------------------


def read_bytes(cutouts: Cutouts) -> None:
    """The limit: read all bytes of all tars and do nothing with them."""
    buffer = bytearray(1 << 20)
    for tar in cutouts.tars:
        with tar.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def plain_loop(cutouts: Cutouts, path: Path) -> None:
    """What one writes first: open each file with astropy, cut it out, write it to a Zarr array."""
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
    """Our tasks, one after the other."""
    shared = conversion.Conversion(cutouts.catalog, BANDS, images, work)
    chunks = conversion.list_chunks(cutouts.catalog, cutouts.tars, cutouts.ledgers, len(BANDS))
    conversion.prepare(shared, len(cutouts.objects))
    for shard, overlapping in enumerate(conversion.chunks_of_shards(chunks, images.shard_size)):
        conversion.convert_shard(shared, shard, overlapping)


def with_dask(cutouts: Cutouts, images: Images, scheduler: str, output: Path) -> None:
    """As the workflow does it."""
    conversion.convert(
        catalog=cutouts.catalog,
        tars=cutouts.tars,
        ledgers=cutouts.ledgers,
        bands=BANDS,
        images=images,
        dask=Dask(cluster="address", address=scheduler),
        threads=1,
        output=output,
        problems=output.with_suffix(".problems.csv"),
    )


def read_shards(path: Path) -> None:
    """Read all images back, shard by shard."""
    store = open_store(path)
    for shard in range(shard_count(store)):
        read_shard(store, shard)


def read_rows(path: Path, rows: Sequence[int]) -> None:
    """Read single images from anywhere in the store: what not to do."""
    flux = array_of(open_store(path), "flux")
    for row in rows:
        flux[row]


# --- the table ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Taken:
    """Seconds of one call: on the clock, and of this process's cores."""

    clock: float
    cpu: float


def taken(function: Callable[..., None], *arguments: Any) -> Taken:
    """Time one call."""
    clock, cpu = time.perf_counter(), time.process_time()
    function(*arguments)
    return Taken(time.perf_counter() - clock, time.process_time() - cpu)


def size_on_disk(path: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def main(
    objects: Annotated[int, typer.Option(min=64, help="How many galaxies.")] = 768,
    size: Annotated[int, typer.Option(min=8, help="Side of the stored images, pixels.")] = 128,
    workers: Annotated[int, typer.Option(min=1, help="Workers of the Dask row.")] = len(os.sched_getaffinity(0)),
    folder: Annotated[Path | None, typer.Option(help="Where to write the files; a temporary folder.")] = None,
) -> None:
    """Measure and print the table."""
    images = Images(size=size, shard_size=128, chunk_size=32)
    zarr.config.set({"threading.max_workers": 1})  # the plain loop, too, has one core
    warnings.simplefilter("ignore", fits.verify.VerifyWarning)
    work = Path(tempfile.mkdtemp(dir=folder))
    try:
        cutouts = make_cutouts(work, objects, size)
        raw = taken(read_bytes, cutouts)
        loop = taken(plain_loop, cutouts, work / "plain.zarr")
        ours = taken(one_core, cutouts, images, work / "ours.partial")
        with LocalCluster(
            n_workers=workers, threads_per_worker=1, memory_limit=None, dashboard_address=None
        ) as cluster:
            dask = taken(with_dask, cutouts, images, cluster.scheduler_address, work / "images.zarr")

        table = Table(title=f"{objects} galaxies, {len(BANDS)} bands, {size} x {size} pixels")
        for column in ("conversion", "objects/s", "of plain", "of bytes", "of plain, CPU time"):
            table.add_column(column, justify="left" if column == "conversion" else "right")
        for name, time_taken in (
            ("bytes: read the tars, no more", raw),
            ("plain: astropy and Zarr, one core", loop),
            ("tidalkin, one core", ours),
            (f"tidalkin, Dask with {workers} workers", dask),
        ):
            clock = time_taken.clock
            of_plain = (
                "" if time_taken is dask else f"{loop.cpu / time_taken.cpu:.2f}"
            )  # its workers' is not known here
            table.add_row(
                name, f"{objects / clock:.0f}", f"{loop.clock / clock:.2f}", f"{raw.clock / clock:.3f}", of_plain
            )
        console = Console()
        console.print(table)

        pixels, tars = cutouts.pixel_bytes, sum(tar.stat().st_size for tar in cutouts.tars)
        store, plain = size_on_disk(work / "images.zarr"), size_on_disk(work / "plain.zarr")
        console.print(
            f"store: {store / pixels:.3f} of its pixels' bytes, {store / tars:.3f} of the tars' "
            f"(plain Zarr defaults: {plain / pixels:.3f} of the pixels' bytes)"
        )
        rows = [int(row) for row in np.random.default_rng(2).integers(0, objects, 64)]
        shards = taken(read_shards, work / "images.zarr")
        single = taken(read_rows, work / "images.zarr", rows)
        console.print(
            f"reading back: {pixels / shards.clock / 1e6:.0f} MB/s by whole shards, "
            f"{pixels / objects * len(rows) / single.clock / 1e6:.0f} MB/s by single random images"
        )
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    typer.run(main)
