"""Find the number of galaxies above which a whole patch costs fewer bytes than cutouts.

    python benchmarks/patches.py                     patches of 4,200 pixels, like HSC's
    python benchmarks/patches.py --side 1000         a quick look
    python benchmarks/patches.py --pixels FOLDER     also compress real pixels: HSC's FITS cutouts with all planes

A server on loopback serves one coadd patch, as a plain and as a compressed FITS file, and cutouts of several sizes
(tests/servers). The output is the number of bytes over HTTP for each, the number of galaxies at which both ways cost
the same bytes, and the time to cut out a galaxy here.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from servers.hsc_server import CUTOUT_PATH, PASSWORD, USER, CutoutService, HscServer
from servers.patch_service import TREE_PATH, PatchService, address_of, patch_file
from tidalkin.config import Cutouts, HscDas, HscPatches, HscPatchesTransport
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.download.credentials import Account
from tidalkin.sources.hsc.das import HscDasSource
from tidalkin.sources.hsc.patches import HscPatchesSource

ACCOUNT = Account(USER, SecretStr(PASSWORD), "the benchmark")
RA, DEC = 150.0, 2.0
SIZES = (64, 96, 128, 160, 198)


def galaxies(number: int, side: int) -> pd.DataFrame:
    """Draw galaxies over the inner part of a patch."""
    generator = np.random.default_rng(1)
    inner = (side - 200) * PIXEL_SCALE_ARCSEC / 3600
    ra, dec = (centre + inner * generator.uniform(-0.5, 0.5, number) for centre in (RA, DEC))
    return pd.DataFrame({"object_id": np.arange(number), "ra": ra, "dec": dec, "tract": 9813, "patch": 405})


def cutout_bytes(server: HscServer, size: int, objects: pd.DataFrame, folder: Path) -> float:
    """Measure the bytes of one cutout of the service, with its part of the tar."""
    das = HscDas(url=server.url("/das_cutout/pdr3"))
    cutouts = Cutouts(source="hsc_das", size_arcsec=size * PIXEL_SCALE_ARCSEC, hsc_das=das)
    source = HscDasSource(cutouts, folder / f"das-{size}", ACCOUNT, folder / "locks")
    sizes = [delivery.size for delivery in source.fetch(objects, ["g"])]
    return float(np.mean([512 + -(-one // 512) * 512 for one in sizes]))


def cut_all(server: HscServer, objects: pd.DataFrame, folder: Path) -> float:
    """Measure the seconds to cut one galaxy in one band from a patch."""
    patches = HscPatches(url=server.url(TREE_PATH), transport=HscPatchesTransport(cache=str(folder)))
    cutouts = Cutouts(source="hsc_patches", size_arcsec=128 * PIXEL_SCALE_ARCSEC, hsc_patches=patches)
    source = HscPatchesSource(cutouts, ACCOUNT, folder / "locks")
    list(source.fetch(objects[:1], ["g"]))
    began = time.perf_counter()
    statuses = {delivery.status for delivery in source.fetch(objects, ["g"])}
    assert statuses == {"ok"}, statuses
    return (time.perf_counter() - began) / len(objects)


def compressed_shares(folder: Path, side: int) -> list[float]:
    """Measure the share of bytes that lossless compression leaves of image, mask and variance.

    The compression is GZIP_2, row by row. The pixels are those of all FITS files in ``folder``, in rows of ``side``.
    """
    planes: list[list[np.ndarray]] = [[], [], []]
    for path in sorted(folder.glob("*.fits")):
        with fits.open(path) as hdus:
            for pixels, hdu in zip(planes, hdus[1:4], strict=True):
                pixels.append(hdu.data.ravel())
    shares = []
    for pixels in planes:
        rows = np.concatenate(pixels)
        rows = rows[: len(rows) // side * side].reshape(-1, side)
        file = io.BytesIO()
        fits.CompImageHDU(rows, compression_type="GZIP_2", quantize_level=0).writeto(file)
        shares.append(len(file.getvalue()) / rows.nbytes)
    return shares


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=4200, help="pixels of a patch's side")
    parser.add_argument("--objects", type=int, default=200, help="galaxies to cut out")
    parser.add_argument("--pixels", type=Path, help="folder of HSC's FITS cutouts, <name>.fits: image, mask, variance")
    arguments = parser.parse_args()
    objects = galaxies(arguments.objects, arguments.side)
    address = address_of(9813, "4,5", "g")
    with HscServer() as server, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server.mount(CUTOUT_PATH, CutoutService().answer)
        cutouts = {size: cutout_bytes(server, size, objects[:20], folder) for size in SIZES}
        patches, seconds = {}, {}
        for kind in ("plain", "compressed"):
            service = PatchService({address: patch_file("g", RA, DEC, arguments.side, compressed=kind == "compressed")})
            service.mount(server)
            seconds[kind] = cut_all(server, objects, folder / kind)
            patches[kind] = sum(service.sent.values())
    console = Console()
    if arguments.pixels:
        shares = compressed_shares(arguments.pixels, arguments.side)
        patches["compressed real"] = round(4 * arguments.side**2 * sum(shares))
        console.print(
            f"image, mask and variance of {arguments.pixels} compress to", *(f"{share:.3f}" for share in shares)
        )
    table = Table(title=f"a patch of {arguments.side} pixels against cutouts, one band, image, mask and variance")
    for column in ("cutout, pixels", "cutout, kB", *(f"galaxies per {kind} patch" for kind in patches)):
        table.add_column(column, justify="right")
    for size, one in cutouts.items():
        table.add_row(str(size), f"{one / 1e3:.0f}", *(f"{whole / one:.0f}" for whole in patches.values()))
    console.print(table)
    for kind, whole in patches.items():
        cutting = f"; cutting one galaxy of 128 pixels: {1e3 * seconds[kind]:.1f} ms" if kind in seconds else ""
        console.print(f"{kind} patch: {whole / 1e6:.0f} MB{cutting}")


if __name__ == "__main__":
    main()
