"""Set up cutouts from the coadd patches of the test server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import SecretStr

from servers.hsc_server import PASSWORD, USER, HscServer
from servers.patch_service import TREE_PATH, address_of
from tidalkin.config import Cutouts, HscPatches, HscPatchesTransport
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.cutouts.base import Cutout
from tidalkin.download.credentials import Account
from tidalkin.sources.hsc.patches import HscPatchesSource

ACCOUNT = Account(USER, SecretStr(PASSWORD), "the test")
RA, DEC, SIZE = 150.0, 2.0, 220
BANDS = ("g", "r")
PIXEL = PIXEL_SCALE_ARCSEC / 3600
ADDRESS = address_of(9813, "4,5", "g")


def galaxies(number: int = 6) -> pd.DataFrame:
    """Make galaxies in the middle of a patch, and one at its corner.

    It is patch 4,5 of tract 9813. The columns are those of an HSC catalog. The galaxy at the corner is the last.
    """
    steps = np.arange(number) - number / 2
    ra, dec = RA + 12 * PIXEL * steps, DEC - 9 * PIXEL * steps
    ra[-1], dec[-1] = RA + (SIZE / 2 - 3) * PIXEL / np.cos(np.radians(DEC)), DEC + (SIZE / 2 - 3) * PIXEL
    return pd.DataFrame({"object_id": 1 + np.arange(number), "ra": ra, "dec": dec, "tract": 9813, "patch": 405})


def settings(server: HscServer, folder: Path, image_type: str = "coadd/bg", **changes: object) -> Cutouts:
    """Configure small cutouts and short waits for the test server."""
    quick = {"cache": str(folder / "patches"), "attempts": 3, "timeout_seconds": 0.5}
    quick |= {"backoff_seconds": 0.01, "backoff_maximum_seconds": 0.02}
    patches = HscPatches(
        url=server.url(TREE_PATH), image_type=image_type, transport=HscPatchesTransport(**(quick | changes))
    )
    size = 16 * PIXEL_SCALE_ARCSEC
    return Cutouts(source="hsc_patches", bands=list(BANDS), size_arcsec=size, hsc_patches=patches)


def source(server: HscServer, folder: Path, account: Account | None = ACCOUNT, **changes: object) -> HscPatchesSource:
    return HscPatchesSource(settings(server, folder, **changes), account, folder / "locks")


def delivered(opened: HscPatchesSource, objects: pd.DataFrame) -> list[Cutout]:
    return list(opened.fetch(objects, BANDS))
