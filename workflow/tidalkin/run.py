"""Open a finished run, or several, from Python.

Examples
--------
>>> from tidalkin import open_run
>>> run = open_run("results/demo")
>>> table = run.search(like=[42], k=24)
>>> run.mosaic(table).savefig("mosaic.png")
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from tidalkin import config
from tidalkin.errors import TidalkinError
from tidalkin.search.files import RunFiles, names_of

if TYPE_CHECKING:
    import pandas as pd
    from astropy.nddata import NDData
    from astropy.table import Row, Table
    from matplotlib.figure import Figure

    from tidalkin.explorer.labels import LabelBook, Verdict
    from tidalkin.figures.mosaic import Panel
    from tidalkin.search.outside import CutoutSettings
    from tidalkin.search.query import SearchResult

logger = logging.getLogger(__name__)

DEFAULTS = config.Search()


def open_run(path: str | Path | Sequence[str | Path], configfile: str | Path | None = None) -> Run:
    """Open the results of a run, or of several runs that are searched as one.

    Parameters
    ----------
    path : path or sequence of path
        Results of a run, like ``results/demo``; or of several that share encoder and whitening.
    configfile : path, optional
        Configuration of the (first) run. It is read for `Run.settings`, for searches with a cutout and for labels. By
        default, `run_settings` finds it.

    Returns
    -------
    Run
        Nothing is read before it is needed.

    Raises
    ------
    TidalkinError
        If a folder is not there.

    Examples
    --------
    >>> run = open_run("results/demo")
    >>> len(run.search(like=[42], k=24))
    24
    >>> both = open_run(["results/north", "results/south"])  # doctest: +SKIP
    """
    paths = [path] if isinstance(path, str | os.PathLike) else [*path]
    if not paths:
        raise TidalkinError("no run is named: name the results of one, like results/demo")
    return Run(tuple(Path(path) for path in paths), None if configfile is None else Path(configfile))


@dataclass(frozen=True)
class Run:
    """The results of a finished run, or of several that are searched as one.

    Attributes
    ----------
    paths : tuple of Path
        The folder of each run.
    configfile : Path or None
        Configuration of the first run.

    Examples
    --------
    >>> run = open_run("results/demo")
    >>> len(run.catalog), run.vectors.shape, run.vector_ids[:3].tolist()
    (60, (60, 8), [1, 2, 3])
    >>> run.settings.embedding.dimensions, run.explorer_settings.run
    (8, 'demo')
    >>> run.files[0].ranking.name
    'ranking.parquet'
    """

    paths: tuple[Path, ...]
    configfile: Path | None = None

    def __post_init__(self) -> None:
        for path in self.paths:
            if not path.is_dir():
                raise TidalkinError(f"run {path}: is not a folder: name the results of a run, like results/demo")

    @property
    def files(self) -> tuple[RunFiles, ...]:
        """The files of each run."""
        return tuple(RunFiles.of(path) for path in self.paths)

    @property
    def settings(self) -> config.Settings:
        """The configuration of the first run.

        Raises
        ------
        TidalkinError
            If there is none, or it cannot be read.
        """
        settings = run_settings(self.paths[0], self.configfile)
        if settings is None:
            raise TidalkinError(
                f"run {self.paths[0]}: has no {config.SETTINGS_FILE}: name the configuration that it was made with by "
                "--configfile"
            )
        return settings

    @property
    def explorer_settings(self) -> config.Settings:
        """The configuration of the first run; its defaults where no file configures it."""
        run = self.paths[0]
        return run_settings(run, self.configfile) or config.load_settings({"run": absolute_path(run).name})

    def label_book(self) -> LabelBook:
        """Open the labels that people gave to galaxies of the first run.

        Examples
        --------
        >>> from tidalkin.explorer.labels import new_mark
        >>> book = open_run("results/demo").label_book()
        >>> book.append(new_mark(42, "tidal", "ada")).label
        'tidal'
        """
        from tidalkin.explorer.labels import LabelBook

        book = LabelBook(self.paths[0] / "labels")
        book.refresh()
        return book

    def verdicts(self) -> list[Verdict]:
        """Return the joint judgement of all people on each galaxy of the first run.

        Examples
        --------
        >>> from tidalkin.explorer.labels import new_mark
        >>> run = open_run("results/demo")
        >>> _ = run.label_book().append(new_mark(42, "tidal", "ada"))
        >>> [(verdict.object_id, verdict.is_positive) for verdict in run.verdicts()]
        [(42, True)]
        """
        from tidalkin.explorer.labels import verdicts

        return verdicts(self.label_book().current(), self.explorer_settings.explorer)

    @property
    def labels(self) -> pd.DataFrame:
        """The labels that people gave in the explorer, one row per galaxy; see `tidalkin.explorer.exchange`.

        Examples
        --------
        >>> from tidalkin.explorer.labels import new_mark
        >>> run = open_run("results/demo")
        >>> _ = run.label_book().append(new_mark(42, "tidal", "ada"))
        >>> run.labels["object_id"].tolist()
        [42]
        """
        from tidalkin.explorer.exchange import label_table

        settings = self.explorer_settings
        catalog = self.catalog["object_id", "ra", "dec"].to_pandas()
        return label_table(self.verdicts(), catalog, settings.evaluation.negative_label, settings.explorer)

    @cached_property
    def catalog(self) -> Table:
        """The catalog as an astropy table; of several runs with a column ``run``."""
        from astropy.table import Table, vstack

        tables = []
        for name, files in zip(names_of(self.files), self.files, strict=True):
            table = Table.from_pandas(_read_catalog(files.catalog))
            table["ra"].unit = table["dec"].unit = "deg"
            if len(self.paths) > 1:
                table["run"] = name
            tables.append(table)
        return tables[0] if len(tables) == 1 else vstack(tables, metadata_conflicts="silent")

    @cached_property
    def vectors(self) -> npt.NDArray[np.generic]:
        """The embedding vectors, (row, dimension), of length one; their galaxies are `vector_ids`."""
        return self._joined([files.index / "vectors.npy" for files in self.files])

    @cached_property
    def vector_ids(self) -> npt.NDArray[np.int64]:
        """The object ids of the rows of `vectors`, (row,)."""
        return self._joined([files.index / "ids.npy" for files in self.files])

    def _joined(self, paths: Sequence[Path]) -> npt.NDArray[Any]:
        """Return one array as it is mapped, and several joined in memory."""
        from tidalkin.index.report import REBUILD_HINT
        from tidalkin.index.vectors import load_array

        arrays = [load_array(path, REBUILD_HINT) for path in paths]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def search(
        self,
        like: int | Sequence[int] = (),
        unlike: int | Sequence[int] = (),
        *,
        position: tuple[float, float] | None = None,
        cutout: str | None = None,
        k: int = DEFAULTS.k,
        radius_arcsec: float = DEFAULTS.radius_arcsec,
        debris_weight: float = DEFAULTS.debris_weight,
    ) -> Table:
        """Find the galaxies most similar to examples, or with no example those with most debris.

        Parameters
        ----------
        like, unlike : int or sequence of int
            Object ids of examples and counter-examples.
        position : (float, float), optional
            Right ascension and declination of a further example, degrees, ICRS.
        cutout : str, optional
            A further example of your own: a FITS file with the HDUs ``G``, ``R``, ..., or a file name with ``{band}``
            or ``{BAND}``.
        k : int
            Number of neighbours.
        radius_arcsec : float
            Largest distance of the catalog's nearest galaxy from ``position``.
        debris_weight : float
            Weight of the debris score; 0 for plain look-alikes.

        Returns
        -------
        astropy.table.Table
            Columns rank, object_id, ra, dec, similarity (with no example debris_score), and label and run where there
            are any, best first. ``meta`` describes the query.

        Raises
        ------
        TidalkinError
            If an object is unknown, the files of the run do not belong together, or nothing is named and training had
            no injected light; see `tidalkin.search.query.find_similar`.

        Examples
        --------
        >>> run = open_run("results/demo")
        >>> run.search(like=[42], unlike=[7], k=3).colnames
        ['rank', 'object_id', 'ra', 'dec', 'similarity', 'label']
        >>> run.search(k=10)["debris_score"].shape  # with no example, those with most debris
        (10,)
        """
        from tidalkin.search.result import to_table

        like, unlike = _as_tuple(like), _as_tuple(unlike)
        nothing_named = not (like or unlike or position or cutout)
        query = make_query(like, unlike, position, cutout, debris=nothing_named)
        return to_table(self.find(query, k=k, radius_arcsec=radius_arcsec, debris_weight=debris_weight))

    def find(
        self,
        query: config.Query,
        *,
        k: int = DEFAULTS.k,
        radius_arcsec: float = DEFAULTS.radius_arcsec,
        debris_weight: float = DEFAULTS.debris_weight,
    ) -> SearchResult:
        """Run a query, as `search` does, and return all that `tidalkin.search.result.write_result` writes.

        Examples
        --------
        >>> found = open_run("results/demo").find(config.Query(like=(42,)), k=3)
        >>> len(found.neighbours), found.n_searched
        (3, 60)
        """
        from tidalkin.search.query import find_similar

        cutouts = self._cutout_settings() if query.cutout else None
        return find_similar(
            query, self.files, k=k, radius_arcsec=radius_arcsec, debris_weight=debris_weight, cutouts=cutouts
        )

    def rank(self, labels: str | Path | Mapping[int, bool] | None = None, negative_label: str = "none") -> Table:
        """Rank the whole survey by what is learned from judged galaxies.

        Parameters
        ----------
        labels : path or mapping of int to bool, optional
            A CSV file with the columns ``object_id`` and ``label``, or whether each judged galaxy is wanted. By default
            the labels that people gave in the explorer.
        negative_label : str
            The label in that file of galaxies that are not wanted.

        Returns
        -------
        astropy.table.Table
            Best first: rank, object_id, ra, dec, score, percentile, judged (``yes``, ``no`` or empty), and the label
            where the catalog has one.

        Raises
        ------
        TidalkinError
            If several runs are open, a judged galaxy is unknown, or nothing is judged positive and training had no
            injected light.

        Examples
        --------
        >>> ranking = open_run("results/demo").rank({42: True, 50: True, 3: False})
        >>> len(ranking), ranking.colnames
        (60, ['rank', 'object_id', 'ra', 'dec', 'score', 'percentile', 'judged', 'label'])
        """
        from astropy.table import Table

        from tidalkin.search.judged import rank_by_labels, read_labels

        if len(self.files) > 1:
            raise TidalkinError(f"{len(self.files)} runs are open, but labels rank one: open one run")
        if labels is None:
            labels = {one.object_id: one.is_positive for one in self.verdicts() if one.is_positive is not None}
        judged = labels if isinstance(labels, Mapping) else read_labels(labels, negative_label)
        table = Table.from_pandas(rank_by_labels(judged, self.files[0]))
        table["ra"].unit = table["dec"].unit = "deg"
        return table

    def _cutout_settings(self) -> CutoutSettings:
        """Return how the run reads and embeds images, so that a cutout is treated alike."""
        from tidalkin.search.outside import CutoutSettings

        settings = self.settings
        return CutoutSettings(settings.images, settings.embedding, settings.compute)

    def cutout(self, object_id: int) -> NDData:
        """Return the image of a galaxy as the encoder sees it.

        Parameters
        ----------
        object_id : int
            The galaxy.

        Returns
        -------
        astropy.nddata.NDData
            ``data`` is (band, y, x) in nJy, NaN where a pixel is missing (``mask`` True). ``wcs`` belongs to the last
            two axes: a tangent plane, north up and east left, with the catalog's position in the middle. Images are
            placed by whole pixels, so that it is good to half a pixel. ``meta`` holds object_id, ra, dec, bands,
            sky_sigma (nJy) and psf_fwhm (arcsec), the last two per band.

        Raises
        ------
        TidalkinError
            If the object is not in the catalog.

        Examples
        --------
        >>> image = open_run("results/demo").cutout(42)
        >>> image.data.shape, image.unit, image.meta["bands"]
        ((5, 48, 48), Unit("nJy"), ('g', 'r', 'i', 'z', 'y'))
        """
        import astropy.units as u
        from astropy.nddata import NDData

        from tidalkin.images.store import ImageStore

        row = self._row(object_id)
        store = ImageStore.open(self.files[row["number"]].images)
        flux = np.asarray(store.flux[row["row"]])
        meta = {name: row[name] for name in ("object_id", "ra", "dec")}
        meta |= {
            "bands": tuple(store.bands),
            "sky_sigma": np.asarray(store.sky_sigma[row["row"]]),
            "psf_fwhm": np.asarray(store.psf_fwhm[row["row"]]),
        }
        wcs = _tangent_plane(row["ra"], row["dec"], flux.shape[-1])
        return NDData(flux, unit=u.nJy, mask=np.isnan(flux), wcs=wcs, meta=meta)

    def mosaic(self, galaxies: Table | Sequence[int], title: str | None = None) -> Figure:
        """Draw galaxies in colour.

        Parameters
        ----------
        galaxies : Table or sequence of int
            A result of `search`, which is drawn with its examples, or object ids.
        title : str, optional
            In place of a description of the query.

        Returns
        -------
        matplotlib.figure.Figure
            Show it in a notebook, or save it with ``savefig``.

        Raises
        ------
        TidalkinError
            If an object is not in the catalog.

        Examples
        --------
        >>> run = open_run("results/demo")
        >>> run.mosaic(run.search(like=[42], k=7)).savefig("mosaic.png")
        >>> len(run.mosaic([42, 7, 11]).axes)
        3
        """
        from tidalkin.figures.mosaic import mosaic_figure
        from tidalkin.search.result import MOST_DEBRIS, describe_query, describe_result

        panels = list(self._panels(galaxies))
        subtitle = f"{len(panels)} galaxies"
        meta = getattr(galaxies, "meta", {})
        if "Searched" in meta:
            by_debris = _by_debris(galaxies)
            subtitle = describe_result(len(galaxies), meta["Searched"], by_debris=by_debris)
            like = meta["Like"].split() or ["your cutout"]
            title = title or (MOST_DEBRIS if by_debris else describe_query(like, meta["Unlike"].split()))
        return mosaic_figure(panels, title=title or "Galaxies", subtitle=subtitle)

    def _panels(self, galaxies: Table | Sequence[int]) -> Iterator[Panel]:
        """Draw the examples of a result and its rows, or the galaxies of a list."""
        from astropy.table import Table

        from tidalkin.figures.mosaic import Panel
        from tidalkin.search.result import Pictures

        pictures = Pictures(self.files)
        if not isinstance(galaxies, Table):
            for object_id in galaxies:
                row = self._row(int(object_id))
                yield Panel(pictures.of(row), str(object_id), row.get("label") or "")
            return
        for role, key, word in (("example", "Like", "like"), ("counter-example", "Unlike", "unlike")):
            for object_id in galaxies.meta.get(key, "").split():
                row = self._row(int(object_id))
                yield Panel(pictures.of(row), f"{word} {object_id}", row.get("label") or "", role=role)  # type: ignore[arg-type]
        debris_counts = _by_debris(galaxies) or galaxies.meta.get("Debris weight", "0") != "0"
        for entry in galaxies:
            row = self._row(int(entry["object_id"]), _value(entry, "run"))
            rank = _value(entry, "rank")
            heading = f"{rank}   {row['object_id']}" if rank else str(row["object_id"])
            value = _value(entry, "similarity") or _value(entry, "debris_score")
            caption = f"{value}   {row.get('label') or ''}".strip()
            debris_map = pictures.debris_map_of(row) if debris_counts else None
            yield Panel(pictures.of(row), heading, caption, debris_map=debris_map)

    def _row(self, object_id: int, run: str = "") -> dict[str, Any]:
        """Return an object's row of the catalog, with the name and number of its run."""
        from tidalkin.search.objects import catalog_rows

        found = []
        for number, (name, files) in enumerate(zip(names_of(self.files), self.files, strict=True)):
            if run in ("", name):
                rows = catalog_rows(files.catalog, [object_id]).to_pylist()
                found += [row | {"run": name, "number": number} for row in rows]
        if not found:
            catalogs = " or ".join(str(files.catalog) for files in self.files)
            raise TidalkinError(f"object {object_id} is not in {catalogs}: name an object_id of the catalog")
        if len(found) > 1:
            names = " and ".join(row["run"] for row in found)
            raise TidalkinError(f"object {object_id} is in the runs {names}: open one of them alone")
        row: dict[str, Any] = found[0]
        return row


def make_query(
    like: Sequence[int],
    unlike: Sequence[int],
    position: tuple[float, float] | None,
    cutout: str | None,
    *,
    debris: bool = False,
) -> config.Query:
    """Make a checked query.

    Examples
    --------
    >>> make_query([42], [], None, None).like
    (42,)

    Raises
    ------
    TidalkinError
        If the query names no example and does not ask for debris, or contradicts itself.
    """
    try:
        return config.Query(like=tuple(like), unlike=tuple(unlike), position=position, cutout=cutout, debris=debris)
    except ValidationError as error:
        raise TidalkinError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def load_run_settings(configfile: Path, run: Path) -> config.Settings:
    r"""Read the configuration of a run, and check that it is of this run.

    Raises
    ------
    TidalkinError
        If it cannot be read, or is of another run.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "demo.yaml"
    ...     _ = file.write_text("run: demo\nseed: 7\n")
    ...     load_run_settings(file, Path("results/demo")).seed
    7
    """
    try:
        content = config.read_config_file(configfile)
    except TidalkinError as error:
        raise TidalkinError(f"{error}; --configfile names the configuration that {run} was made with") from None
    settings = config.load_settings(content)
    name = absolute_path(run).name
    if settings.run != name:
        raise TidalkinError(
            f"--configfile {configfile}: is of run {settings.run!r}, not of {name!r}: name the "
            f"configuration that {run} was made with"
        )
    return settings


def run_settings(run: Path, configfile: Path | None = None) -> config.Settings | None:
    """Find and read the configuration of a run.

    By default, this is the file in ``config/`` beside ``results/`` that names the run, or else the run's own
    ``config.yaml``, which the workflow writes at its start.

    Parameters
    ----------
    run : Path
        Folder of the results.
    configfile : Path, optional
        The file to read.

    Returns
    -------
    Settings or None
        None if there is no such file.

    Raises
    ------
    TidalkinError
        If the file cannot be read, has a bad value, or is of another run.

    Examples
    --------
    >>> run_settings(Path("results/demo")).embedding.dimensions
    8
    >>> run_settings(Path("/data/results/cosmos")) is None
    True
    """
    if configfile is not None:
        return load_run_settings(configfile, run)
    here = absolute_path(run)
    for file in sorted((here.parent.parent / "config").glob("*.yaml")):
        if _run_of(file) == here.name:
            return load_run_settings(file, run)
    saved = here / config.SETTINGS_FILE
    return config.load_settings({**config.read_config_file(saved), "run": here.name}) if saved.is_file() else None


def _run_of(configfile: Path) -> str | None:
    """Return the name of the run that a file configures, if it can be read."""
    try:
        content = config.read_config_file(configfile)
    except TidalkinError as error:
        logger.warning("%s; it is left out", error)
        return None
    return str(content.get("run", config.Settings().run))


def absolute_path(path: Path) -> Path:
    """Return an absolute path without following symbolic links, so that a run keeps its name.

    Examples
    --------
    >>> absolute_path(Path("/data/results/../results/demo"))
    PosixPath('/data/results/demo')
    """
    return Path(os.path.abspath(path))  # noqa: PTH100


def _read_catalog(path: Path) -> Any:
    """Read a catalog as a pandas table."""
    from tidalkin.catalog.read import read_catalog

    return read_catalog(path)


def _tangent_plane(ra: float, dec: float, size: int) -> Any:
    """Return the WCS of the image store's grid around a position."""
    from astropy.wcs import WCS

    from tidalkin.constants import PIXEL_SCALE_ARCSEC

    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [(size + 1) / 2] * 2  # the middle of the grid, in pixels counted from one
    wcs.wcs.cdelt = [-PIXEL_SCALE_ARCSEC / 3600, PIXEL_SCALE_ARCSEC / 3600]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.radesys = "ICRS"
    return wcs


def _by_debris(galaxies: Table | Sequence[int]) -> bool:
    """Tell whether galaxies are the result of a search with no example."""
    return "debris_score" in getattr(galaxies, "colnames", ())


def _value(row: Row, name: str) -> str:
    """Return a cell of a table as text, empty where there is no such column."""
    if name not in row.colnames:
        return ""
    digits = {"similarity": ".3f", "debris_score": ".2f"}.get(name)
    return format(row[name], digits) if digits else str(row[name])


def _as_tuple(ids: int | Sequence[int]) -> tuple[int, ...]:
    """Return one id or several as a tuple."""
    return (int(ids),) if isinstance(ids, int | np.integer) else tuple(int(object_id) for object_id in ids)
