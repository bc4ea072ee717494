"""Where the catalog comes from: a table of the user's, a set of images with its own, HSC's server, or a simulation."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tidalkin.catalog import read_catalog
from tidalkin.config import Settings
from tidalkin.sources.hsc_sql import with_psf_fwhm

FETCHING = ("object_id", "ra", "dec", "tract", "patch")


def obtain_catalog(settings: Settings, table: str | Path | None) -> pd.DataFrame:
    """The run's catalog, checked.

    Parameters
    ----------
    settings : Settings
        The run's configuration.
    table : str or Path or None
        The user's table, or the folder of the Multimodal Universe's set, or the catalog server's answer; none for the
        simulated survey.

    Raises
    ------
    TidalkinError
        If the table is no catalog.
    """
    if table is None:
        # Imported here: GalSim is needed by no other catalog.
        from tidalkin.sources.simulated import simulate_catalog

        return simulate_catalog(settings.cutouts.simulated, settings.seed)
    if Path(table).is_dir():
        # Imported here: HDF5 is needed by no other catalog.
        from tidalkin.sources.mmu_hsc import mmu_catalog

        return mmu_catalog(table)
    return with_psf_fwhm(read_catalog(table, settings.catalog.columns))


def chunk_columns(catalog: pd.DataFrame, source: str) -> list[str] | None:
    """The columns that fetching needs; none stands for all, which the simulated survey is drawn from.

    A column of the user's own is none of them, so that a new one fetches nothing again.
    """
    return None if source == "simulated" else [name for name in FETCHING if name in catalog.columns]
