"""A small survey with catalog, tars and ledgers, ready to be converted."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tidalkin.atomic import finished_files
from tidalkin.catalog.read import split_catalog, write_catalog
from tidalkin.config import Images
from tidalkin.cutouts.base import Cutout
from tidalkin.cutouts.write import write_cutout
from tidalkin.download.tar import write_chunk
from tidalkin.images.convert import convert
from tidalkin.images.store import ImageStore

PLANES = {"BAD": 0, "SAT": 1, "DETECTED": 5, "NO_DATA": 8}


ZERO_POINT_31_4 = 10 ** (0.4 * 31.4)  # with it, one count is one nanojansky


def cutout(object_id, band, ra, dec, *, size=16, fluxmag0=ZERO_POINT_31_4, bad=0):
    """Write an image full of noise around ``object_id``, so that pixels tell whose they are."""
    random = np.random.default_rng([object_id, ord(band)])
    image = (object_id + random.normal(0, 0.1, (size, size))).astype(np.float32)
    mask = np.full((size, size), 1 << PLANES["DETECTED"], np.int32)
    mask.flat[:bad] |= 1 << PLANES["SAT"]
    variance = np.full((size, size), 0.01, np.float32)
    return write_cutout(image, mask, variance, band=band, ra=ra, dec=dec, fluxmag0=fluxmag0, mask_planes=PLANES)


class Survey:
    """Catalog, tars and ledgers of ``objects`` galaxies with ids from 1, in a folder."""

    def __init__(self, folder, objects, *, chunk_size=5, bands="gr", deliver=None, columns=None, size=16):
        self.folder, self.bands, self.tars, self.ledgers = folder, bands, [], []
        ids = np.arange(1, objects + 1)
        table = {"object_id": ids, "ra": 150 + ids / 100, "dec": 2 - ids / 100, **(columns or {})}
        self.catalog = pd.DataFrame(table)
        write_catalog(self.catalog, folder / "catalog.parquet")
        self.deliver = deliver or (lambda row, band: cutout(row.object_id, band, row.ra, row.dec, size=size))
        for name, rows in split_catalog(self.catalog, chunk_size).items():
            self.fetch(name, rows)

    def fetch(self, name, rows):
        tar, ledger = self.folder / f"{name}.tar", self.folder / f"{name}.ledger.parquet"
        cutouts = [self.cutout(row, band) for row in rows.itertuples() for band in self.bands]
        write_chunk(cutouts, rows, self.bands, tar, ledger)
        self.tars.append(tar)
        self.ledgers.append(ledger)

    def cutout(self, row, band):
        content = self.deliver(row, band)
        status = "ok" if content else "absent"
        return Cutout(row.object_id, band, status, content or b"", "" if content else "the archive has no such data")

    def arguments(self, output="images.zarr", **images):
        settings = {"size": 16, "shard_size": 4, "chunk_size": 2, **images}
        return {
            "catalog": self.folder / "catalog.parquet",
            "tars": self.tars,
            "ledgers": self.ledgers,
            "bands": tuple(self.bands),
            "images": Images(**settings),
            "threads": 2,
            "output": self.folder / output,
            "problems": self.folder / f"{output}.problems.csv",
        }


def converted(survey, scheduler, output="images.zarr", **images):
    """Convert; return all rows of the store, and its table of problems."""
    arguments = survey.arguments(output, **images)
    convert(**arguments, dask=scheduler)
    store = ImageStore.open(arguments["output"])
    shards = [store.read(shard) for shard in range(store.n_shards)]
    rows = {name: np.concatenate([getattr(shard, name) for shard in shards]) for name in vars(shards[0])}
    return rows, pd.read_csv(arguments["problems"])


def finished_shards(work):
    """List the notes of the shards that a conversion has finished in its folder ``work``."""
    return finished_files(work / "store" / "object_id" / ".finished", "*.json")


def content_of(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


WHOLE = {"size": 64, "shard_size": 8, "chunk_size": 4}
