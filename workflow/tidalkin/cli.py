"""The command line: search runs, and look after their downloads.

Only what every command needs is imported at the top, so that a search by id is fast. The docstring of a command is its
help text. Its lines are at most 74 characters long, because the help keeps their breaks.
"""

from __future__ import annotations

import getpass
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from tidalkin import __version__, config
from tidalkin.errors import TidalkinError
from tidalkin.run import absolute_path, load_run_settings, make_query, open_run

if TYPE_CHECKING:
    from tidalkin.search.query import SearchResult

RESULTS = Path("results")
DEFAULTS = config.Search()
NEWEST_RUN = "the newest run below results/"
RunOption = Annotated[Path | None, typer.Option(help="Results of a run.", show_default=NEWEST_RUN)]
ConfigOption = Annotated[Path | None, typer.Option(help="Configuration of the run.")]

app = typer.Typer(
    help="Find galaxies that look like the one you point at.", no_args_is_help=True, pretty_exceptions_enable=False
)


def main() -> None:
    """Run the command `tidalkin`; a `TidalkinError` ends it with its sentence and status 1.

    Examples
    --------
    >>> from contextlib import suppress
    >>> from unittest import mock
    >>> with mock.patch.object(sys, "argv", ["tidalkin", "--version"]), suppress(SystemExit):
    ...     main()
    tidalkin ...
    """
    try:
        app()
    except TidalkinError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("tidalkin"):
            raise
        extra = "explorer" if error.name in ("fastapi", "starlette", "uvicorn") else "pipeline"
        hint = f"in a clone of tidalkin, install the requirements of the {extra} with `pip install '.[{extra}]'`"
        print(f"this command needs the package {error.name}, which is not installed: {hint}", file=sys.stderr)
        sys.exit(1)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"tidalkin {__version__}")
        raise typer.Exit


@app.callback()
def _tidalkin(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def search(
    like: Annotated[list[int] | None, typer.Option(help="object_id of an example; repeat for more.")] = None,
    unlike: Annotated[list[int] | None, typer.Option(help="object_id of a counter-example; repeat for more.")] = None,
    position: Annotated[
        tuple[float, float] | None, typer.Option(help="Position of an example: RA DEC, degrees, ICRS.")
    ] = None,
    cutout: Annotated[
        str | None,
        typer.Option(
            help="Your own example: a FITS file with the HDUs G, R, ..., or a file name with {band} or {BAND}."
        ),
    ] = None,
    debris: Annotated[
        bool, typer.Option("--debris", help="No example: list the galaxies with the highest debris score.")
    ] = False,
    k: Annotated[int, typer.Option("--k", "-k", min=1, max=10_000, help="Number of galaxies to list.")] = DEFAULTS.k,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            help="Results of a run; repeat to search several runs that share encoder and whitening.",
            show_default=NEWEST_RUN,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write neighbours.csv, neighbours.fits and mosaic.png to this folder.")
    ] = None,
    radius_arcsec: Annotated[
        float, typer.Option(help="Largest distance of the galaxy from the position, arcsec.")
    ] = DEFAULTS.radius_arcsec,
    debris_weight: Annotated[
        float, typer.Option(help="Weight of the debris score; 0 for plain look-alikes.")
    ] = DEFAULTS.debris_weight,
    configfile: ConfigOption = None,
) -> None:
    """List the galaxies most similar to examples, or those with most debris.

    Examples
    --------
      tidalkin search --like 42
      tidalkin search --position 150.1 2.2 --unlike 3 --k 100 --output similar
      tidalkin search --debris --run results/hsc_pdr3
    """
    from tidalkin.search.result import write_result

    query = make_query(like or (), unlike or (), position, cutout, debris=debris)
    folders = run or [newest_run(RESULTS)]
    found = open_run(folders, configfile).find(query, k=k, radius_arcsec=radius_arcsec, debris_weight=debris_weight)
    _print(found, folders)
    if output is not None:
        write_result(found, output)
        print(f"written: {output}/neighbours.csv, neighbours.fits, mosaic.png")


@app.command()
def explore(
    run: Annotated[Path | None, typer.Argument(help="Results of a run.", show_default=NEWEST_RUN)] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 for a free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen at. Others are open to the network.")] = "localhost",
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    who: Annotated[str, typer.Option(help="Name of the person who judges.", show_default="the login name")] = "",
    configfile: ConfigOption = None,
) -> None:
    """Search, judge, rank and map a run in the browser.

    Examples
    --------
      tidalkin explore results/demo
      tidalkin explore results/demo --port 8080 --who ada --no-browser
    """
    opened = open_run(run or newest_run(RESULTS), configfile)
    from tidalkin.explorer.serve import serve

    settings = opened.explorer_settings
    serve(opened.paths[0], settings, host=host, port=port, who=who or getpass.getuser(), open_browser=browser)


labels_app = typer.Typer(help="Exchange the labels that people gave in the explorer.", no_args_is_help=True)
app.add_typer(labels_app, name="labels")
Format = Annotated[
    Literal["csv", "votable", "zooniverse", "labelstudio", "astronomaly"],
    typer.Option("--format", help="Format of the file."),
]


@labels_app.command("export")
def export_labels(
    output: Annotated[Path, typer.Argument(help="The file to write.")],
    kind: Format = "csv",
    run: RunOption = None,
    configfile: ConfigOption = None,
) -> None:
    """Write the labels of a run to a file.

    A CSV file is a catalog with a label. The pipeline and `tidalkin rank`
    read it.

    Examples
    --------
      tidalkin labels export labels.csv --run results/demo
      tidalkin labels export labels.xml --format votable
    """
    from tidalkin.atomic import atomic_path
    from tidalkin.explorer.exchange import export_labels, label_table

    opened = open_run(run or newest_run(RESULTS), configfile)
    settings, catalog = opened.explorer_settings, opened.catalog["object_id", "ra", "dec"].to_pandas()
    judged = opened.verdicts()  # read once: somebody may be judging
    table = label_table(judged, catalog, settings.evaluation.negative_label, settings.explorer)
    content = export_labels(table, judged, kind, settings.explorer)
    with atomic_path(output) as partial:
        partial.write_bytes(content)
    print(f"written: {output}, {len(table)} labelled galaxies")


@labels_app.command("import")
def import_labels(
    file: Annotated[Path, typer.Argument(help="The file to read.")],
    kind: Format = "csv",
    run: RunOption = None,
    who: Annotated[
        str, typer.Option(help="The person, where the file names none.", show_default="the login name")
    ] = "",
    configfile: ConfigOption = None,
) -> None:
    """Add the labels of a file to a run.

    Importing a file twice adds nothing.

    Examples
    --------
      tidalkin labels import labels.csv --run results/demo --who ada
      tidalkin labels import classifications.csv --format zooniverse
    """
    from tidalkin.explorer.exchange import import_labels

    opened = open_run(run or newest_run(RESULTS), configfile)
    settings = opened.explorer_settings
    ids = opened.catalog["object_id"].tolist()
    negative = settings.evaluation.negative_label
    added = import_labels(file, kind, opened.label_book(), ids, settings.explorer, negative, who or getpass.getuser())
    print(f"added: {added} labels to {opened.paths[0]}")


@app.command()
def rank(
    labels: Annotated[Path, typer.Option(help="CSV file with the columns object_id and label.")],
    negative_label: Annotated[
        str, typer.Option(help="Label of galaxies that are not wanted; all other labels are wanted.")
    ] = config.EvaluationSettings().negative_label,
    k: Annotated[int, typer.Option("--k", "-k", min=1, max=10_000, help="Number of galaxies to list.")] = DEFAULTS.k,
    run: RunOption = None,
    output: Annotated[Path | None, typer.Option(help="Write the ranking of all galaxies to this Parquet file.")] = None,
) -> None:
    """Rank the whole survey from labels of judged galaxies.

    Without labels, the order is that of the debris score. Each label moves
    the order a little away from it.

    Examples
    --------
      tidalkin rank --labels labels.csv --k 48
      tidalkin rank --labels labels.csv --output ranking.parquet
    """
    from tidalkin.search.files import RunFiles
    from tidalkin.search.judged import rank_by_labels, read_labels
    from tidalkin.search.ranking import write_ranking

    folder = run or newest_run(RESULTS)
    ranking = rank_by_labels(read_labels(labels, negative_label), RunFiles.of(folder))
    table = Table(title=f"first {min(k, len(ranking))} of {len(ranking):,} galaxies of {folder}", title_justify="left")
    for name in map(str, ranking.columns):
        table.add_column(name, justify="left" if name in ("label", "judged") else "right", no_wrap=True)
    formats = {"ra": ".5f", "dec": ".5f", "score": ".2f", "percentile": ".2f"}
    for row in ranking.head(k).fillna({"label": ""}).to_dict("records"):
        table.add_row(*(format(value, formats.get(str(name), "")) for name, value in row.items()))
    Console().print(table)
    if output is not None:
        write_ranking(ranking, output)
        print(f"written: {output}")


@app.command()
def download_report(
    run: Annotated[Path, typer.Option(help="Results of a run, like results/hsc_pdr3.")],
    bands: Annotated[str, typer.Option(help="Bands of the run.")] = "grizy",
    output: Annotated[
        Path | None, typer.Option(help="Also write download.csv and download.json to this folder.")
    ] = None,
) -> None:
    """Report the progress of a download.

    The report counts the cutouts that are complete, absent or failed, with
    the reasons, the rate and the time left.

    Examples
    --------
      tidalkin download-report --run results/hsc_pdr3
      tidalkin download-report --run results/hsc --bands gri --output report
    """
    from tidalkin.download.report import download_report, print_report, write_report

    report = download_report(run, tuple(bands))
    print_report(report, run, Console())
    if output is not None:
        write_report(report, output / "download.csv", output / "download.json")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="--run RUN [--configfile FILE] [OPTIONS OF SNAKEMAKE]...",
)
def retry_failed(
    context: typer.Context,
    run: Annotated[Path, typer.Option(help="Results of a run, like results/hsc_pdr3.")],
    configfile: Annotated[Path, typer.Option(help="Configuration of the run.")] = Path("config/config.yaml"),
) -> None:
    """Download the failed cutouts once more.

    From HSC's cutout service and hips2fits, nothing that is complete is
    downloaded again. Other options go to snakemake, which uses all cores
    unless they name cores, jobs or a profile. Afterwards, run snakemake as
    usual to update everything that depends on these cutouts. The exit status
    is 0 if nothing is left to retry, and 1 if something failed again.

    Examples
    --------
      tidalkin retry-failed --run results/hsc --configfile config/hsc.yaml
      tidalkin retry-failed --run results/demo --dry-run
    """
    chunks = _chunks_to_retry(run)
    if not chunks:
        print(f"nothing failed in {run}")
        return
    load_run_settings(configfile, run)
    print(f"chunks with failed or missing cutouts: {', '.join(chunks)}", flush=True)
    folder = absolute_path(run).parents[1]
    command = [
        sys.executable,
        "-m",
        "snakemake",
        *_with_cores(context.args),
        "--configfile",
        str(absolute_path(configfile)),
    ]
    tars = [f"results/{absolute_path(run).name}/cutouts/{chunk}.tar" for chunk in chunks]
    # After an option that takes many values, the names would be read as values. So they follow `--`.
    status = _run_to_its_end([*command, "--directory", str(folder), "--forcerun", *tars, "--", *tars])
    if status:
        print("not done: correct the error above, then give the same command again", file=sys.stderr)
        raise typer.Exit(status)
    if {"-n", "--dry-run", "--dryrun"} & set(context.args):
        return
    left = _chunks_to_retry(run)
    if left:
        raise TidalkinError(
            f"cutouts failed again in {', '.join(left)}: see the reasons with `tidalkin download-report --run {run}`, "
            "and retry later"
        )
    print("nothing failed this time: run snakemake as usual to update everything that depends on these cutouts")


@app.command()
def clean(
    run: Annotated[Path, typer.Argument(help="Results of a run, like results/hsc_pdr3.")],
    yes: Annotated[bool, typer.Option("--yes", help="Remove the files. Without it, they are only listed.")] = False,
) -> None:
    """List or remove cutouts and vectors that a run no longer uses.

    They stay when the catalog or the bands change, so that nothing is
    downloaded if the change is taken back.

    Examples
    --------
      tidalkin clean results/hsc_pdr3
      tidalkin clean results/hsc_pdr3 --yes
    """
    from tidalkin.download.leftovers import leftovers, remove, size_bytes

    paths = leftovers(run)
    if not paths:
        print(f"nothing to remove in {run}")
        return
    size = sum(map(size_bytes, paths)) / 1e6
    for path in paths:
        print(path)
    if not yes:
        print(f"{len(paths)} files and folders with {size:.1f} MB: add --yes to remove them")
        return
    for path in paths:
        remove(path)
    print(f"removed {len(paths)} files and folders with {size:.1f} MB")


def _chunks_to_retry(run: Path) -> list[str]:
    """List the chunks of the current catalog that are missing or in which something failed.

    An interrupted retry leaves chunks missing, because Snakemake deletes what it makes again.
    """
    from tidalkin.atomic import finished_files
    from tidalkin.download.report import failed_chunks

    if not run.is_dir() or absolute_path(run).parent.name != "results":
        raise TidalkinError(f"--run {run}: is not the results of a run: name them, like results/hsc_pdr3")
    cutouts = run / "cutouts"
    if not finished_files(cutouts, "*.ledger.parquet"):
        raise TidalkinError(f"--run {run}: no chunk of cutouts is finished here: run snakemake first")
    failed = set(failed_chunks(run))
    chunks = [path.stem for path in finished_files(run / "chunks", "*.parquet")]
    return [chunk for chunk in chunks if chunk in failed or not (cutouts / f"{chunk}.ledger.parquet").exists()]


def _with_cores(options: Sequence[str]) -> list[str]:
    """Add ``--cores all`` to Snakemake's options unless they limit the number of jobs."""
    said = re.compile(r"-[cj]\d*|--(cores|jobs|profile|workflow-profile)(=.*)?")
    return [*options] if any(map(said.fullmatch, options)) else ["--cores", "all", *options]


def _run_to_its_end(command: Sequence[str]) -> int:
    """Run a command, and let it end in order after Ctrl-C."""
    with subprocess.Popen(command) as running:
        while True:
            try:
                return running.wait()
            except KeyboardInterrupt:
                continue


def newest_run(results: Path) -> Path:
    """Return the run whose index was built last.

    Raises
    ------
    TidalkinError
        If there is no run with an index.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = Path(folder) / "demo" / "index" / "report.json"
    ...     report.parent.mkdir(parents=True)
    ...     report.touch()
    ...     newest_run(Path(folder)).name
    'demo'
    """
    reports = list(results.glob("*/index/report.json"))
    if not reports:
        raise TidalkinError(
            f"no run with an index is below {results.resolve()}: make one with `snakemake`, or name one with --run"
        )
    return max(reports, key=lambda report: report.stat().st_mtime).parents[1]


def _print(found: SearchResult, runs: Sequence[Path]) -> None:
    """Print the result as a table."""
    names = " and ".join(map(str, runs))
    table = Table(title=f"{len(found.neighbours)} of {found.n_searched:,} galaxies of {names}", title_justify="left")
    for name in found.table.column_names:
        table.add_column(name, justify="left" if name in ("label", "run") else "right", no_wrap=True)
    formats = {"ra": ".5f", "dec": ".5f", "similarity": ".3f", "debris_score": ".2f"}
    for row in found.table.to_pylist():
        table.add_row(*("" if value is None else format(value, formats.get(name, "")) for name, value in row.items()))
    Console().print(table)
