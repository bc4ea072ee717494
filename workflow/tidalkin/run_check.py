"""Refuse what cannot work before anything is fetched or trained."""

from __future__ import annotations

from pathlib import Path

from tidalkin.config import Settings
from tidalkin.errors import TidalkinError

MADE_FROM = {"reuse.encoder": "encoder/encoder.pt", "reuse.whitening": "whitening.npz"}
"""The run's own copies of the files to reuse."""


def check_paths(settings: Settings, results: str | Path, *, is_module: bool = False) -> None:
    """Refuse input files that do not exist, or that the run itself makes.

    Snakemake deletes the output of a job before the job starts. A run that named its own encoder as the one to reuse
    would lose it.

    Parameters
    ----------
    settings : Settings
        The configuration of the run.
    results : str or Path
        The run's folder, ``results/<run>``.
    is_module : bool
        Whether the workflow is a module of another one, whose rules may make the files.

    Raises
    ------
    TidalkinError
        With the key, the path and the fix.

    Examples
    --------
    >>> check_paths(Settings(reuse={"encoder": "results/demo/encoder/encoder.pt"}), "results/demo")
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: reuse.encoder results/demo/encoder/encoder.pt: is a file that this run makes: copy it
    to a folder outside results/demo, and name the copy
    """
    named = {"reuse.encoder": settings.reuse.encoder, "reuse.whitening": settings.reuse.whitening}
    if settings.catalog.source == "file":
        named["catalog.path"] = settings.catalog.path
    elif settings.catalog.source == "hsc_sql":
        named["catalog.query"] = settings.catalog.query
    own = Path(results).resolve()
    for key, path in named.items():
        if not path:
            continue
        place = Path(path).resolve()
        # The labels that people gave to this run are no product of the workflow.
        if own in place.parents and own / "labels" not in place.parents:
            raise TidalkinError(
                f"{key} {path}: is a file that this run makes: copy it to a folder outside {results}, and name the copy"
            )
        # A run that has made its copy does not need the file any more.
        is_needed = key in MADE_FROM and not is_module and not (own / MADE_FROM[key]).exists()
        if key in MADE_FROM and not place.is_file() and (place.exists() or is_needed):
            raise TidalkinError(f"{key} {path}: there is no such file: correct the path")
    folder = Path(settings.cutouts.folder.path).expanduser()
    if settings.cutouts.source == "folder" and not folder.is_dir() and not (own / "images.json").exists():
        raise TidalkinError(
            f"cutouts.folder.path {settings.cutouts.folder.path!r} is not a folder: name the one with your FITS files"
        )


def check_training(settings: Settings, galaxies: int) -> None:
    """Refuse to train on fewer galaxies than a batch holds.

    Examples
    --------
    >>> check_training(Settings(), galaxies=60)
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: training.batch_size is 64, but the catalog has only 60 galaxies: lower the batch size
    or bring more galaxies
    """
    if galaxies < settings.training.batch_size:
        raise TidalkinError(
            f"training.batch_size is {settings.training.batch_size}, but the catalog has only {galaxies} galaxies: "
            "lower the batch size or bring more galaxies"
        )


def check_labels(settings: Settings, table: str | Path, catalog: str | Path) -> None:
    r"""Refuse to evaluate a catalog that lacks labels, or has too few of them.

    Parameters
    ----------
    settings, table, catalog
        As for `tidalkin.sources.plan.plan_run`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder) / "galaxies.csv"
    ...     _ = table.write_text("object_id,ra,dec\n7,150.1,2.2\n")
    ...     one = {"catalog": {"source": "file", "path": str(table)}, "cutouts": {"source": "hsc_das"}}
    ...     check_labels(Settings(**one), table, "catalog.parquet")
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: the catalog has no column `label`, which the evaluation needs: add it, or set
    evaluation.enabled to false
    """
    # Imported here, because they bring pandas, which planning needs for nothing else.
    from tidalkin.evaluation.labels import labelled_galaxies
    from tidalkin.sources.plan import planned_objects

    objects = planned_objects(settings, table, catalog, ["object_id", "label"])
    labelled_galaxies(objects.to_pandas(), settings.evaluation.negative_label)


def check_index(kind: str) -> None:
    """Refuse a kind of index that FAISS does not know.

    Whether a known kind fits the vectors shows only when it is built.

    Examples
    --------
    >>> check_index("HNSW32")
    >>> check_index("foo")
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: config: index.kind 'foo' does not work (could not parse index string foo): use
    `auto`, `Flat` or another string of faiss.index_factory
    """
    if kind in ("auto", "Flat"):
        return
    import faiss

    from tidalkin.index.ondisk import faiss_reason

    try:
        faiss.index_factory(8, kind, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        reason = faiss_reason(error)
        if "could not parse" in reason:
            raise TidalkinError(
                f"config: index.kind {kind!r} does not work ({reason}): use `auto`, `Flat` or another string of "
                "faiss.index_factory"
            ) from None
