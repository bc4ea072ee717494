"""The server behind the page: a run's galaxies, pictures, searches and labels over HTTP.

Object ids are text in every answer, since JavaScript cannot hold the ids of HSC exactly. The server reads the run and
writes labels only.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import numpy as np
import pandas as pd
from fastapi import BackgroundTasks, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field

from tidalkin import __version__, config
from tidalkin.atomic import atomic_path
from tidalkin.config.explorer import DISAGREEMENT
from tidalkin.errors import TidalkinError
from tidalkin.explorer.ask import LOST_UPLOAD, Ask, Found, ObjectId, answer
from tidalkin.explorer.audit import audit
from tidalkin.explorer.chart import Chart
from tidalkin.explorer.exchange import label_table
from tidalkin.explorer.export import MEDIA_TYPES, encode, links, table_of
from tidalkin.explorer.labels import LabelBook, Mark, Verdict, new_mark, verdicts
from tidalkin.explorer.pictures import SHEET_COLUMNS, Picture, Pictures
from tidalkin.explorer.positions import locate
from tidalkin.explorer.rank import Offer, Ranker, offers
from tidalkin.explorer.samp import send_position, send_table
from tidalkin.explorer.survey import Survey, load_uploaded
from tidalkin.search.outside import OutsideGalaxy

logger = logging.getLogger(__name__)

PAGE = Path(__file__).with_name("page")
LARGEST_UPLOAD = 64 * 2**20
MOST_UPLOADS = 50
MOST_THUMBNAILS = 200
FOREVER = "private, max-age=31536000, immutable"
Thumbnails = Annotated[list[ObjectId], Query(max_length=MOST_THUMBNAILS)]


class GivenMark(BaseModel):
    """A mark as the page sends it."""

    uuid: str = Field(min_length=8, max_length=64)
    object_id: ObjectId
    label: str = Field("", max_length=100)
    who: str = Field("", max_length=100)
    strategy: str = Field("", max_length=20)
    rank: int | None = Field(None, ge=1)
    probability: float | None = Field(None, ge=0, le=1)
    milliseconds: int | None = Field(None, ge=0)
    undoes: str = Field("", max_length=64)


class Look(BaseModel):
    """The stretch and the bands of a picture."""

    stretch: float = Field(1.0, ge=0.05, le=20)
    bands: tuple[str, ...] = Field((), max_length=3)


class Explorer:
    """The state of one server: a run, its labels, and the images that were uploaded.

    Parameters
    ----------
    survey : Survey
        The run.
    settings : Settings
        The configuration of the run.
    who : str
        The person who judges.
    """

    def __init__(self, survey: Survey, settings: config.Settings, who: str) -> None:
        self.survey = survey
        self.settings = settings
        self.who = who
        self.labels = settings.explorer
        self.book = LabelBook(survey.path / "labels")
        self.book.refresh()
        self._warn_of_lost_objects()
        self.pictures = Pictures(survey)
        self.ranker = Ranker(survey)
        self.chart = Chart(survey)
        self.uploads: dict[str, OutsideGalaxy] = {}
        self._upload_lock = threading.Lock()
        self._verdicts: tuple[int, list[Verdict]] = (0, [])
        self._table_lock = threading.Lock()
        self._table_version = 0
        self._state_of_tables = _state_of(survey.files.catalog, survey.files.ranking, self.chart.file)
        self.write_table()

    @property
    def digest(self) -> str:
        """Digest of what pictures and the map depend on; part of their addresses.

        Tables count as they were at the start, since they are read once.
        """
        survey = self.survey
        content = (
            __version__,
            survey.path.resolve(),
            survey.index.report.embeddings_digest,
            _state_of(survey.files.images / "zarr.json"),
            self._state_of_tables,
        )
        return hashlib.sha256(repr(content).encode()).hexdigest()[:12]

    def _warn_of_lost_objects(self) -> None:
        """Tell of marks whose objects have left the catalog."""
        judged = np.array(sorted(self.book.current()), np.int64)
        lost = judged[~self.survey.has(judged)]
        if len(lost):
            logger.warning(
                "%d of %d labelled objects, such as %d, are not in %s: their labels are kept, but not used",
                len(lost),
                len(judged),
                lost[0],
                self.survey.files.catalog,
            )

    def verdicts(self) -> list[Verdict]:
        """Return the verdict on every judged galaxy of the catalog.

        It knows the marks that other processes just wrote.
        """
        version = self.book.refresh()
        if self._verdicts[0] != version:
            judged = verdicts(self.book.current(), self.labels)
            is_known = self.survey.has([verdict.object_id for verdict in judged])
            self._verdicts = (version, [verdict for verdict, known in zip(judged, is_known, strict=True) if known])
        return self._verdicts[1]

    def write_table(self) -> None:
        """Write ``labels/labels.csv``, the verdicts as a catalog of the pipeline, where there are new marks.

        It is made from the marks and can be made again, so that a failure is no more than a warning.
        """
        try:
            self._write_table()
        except TidalkinError as error:
            logger.warning("%s", error)

    def _write_table(self) -> None:
        with self._table_lock:
            version = self.book.refresh()
            if version == self._table_version:
                return
            judged, survey = self.verdicts(), self.survey
            rows = survey.rows_of([verdict.object_id for verdict in judged])
            catalog = pd.DataFrame({"object_id": survey.ids[rows], "ra": survey.ra[rows], "dec": survey.dec[rows]})
            table = label_table(judged, catalog, self.settings.evaluation.negative_label, self.labels)
            with atomic_path(self.book.folder / "labels.csv") as partial:
                table.to_csv(partial, index=False)
            self._table_version = version

    def find(self, ask: Ask) -> Found:
        """Answer a request for galaxies."""
        vectors = {digest: galaxy.vector for digest, galaxy in self.uploads.items()}
        return answer(ask, self.survey, self.ranker, self.chart, self.verdicts(), vectors)

    def offers(self, k: int) -> list[Offer]:
        """Choose the galaxies that this person judges next."""
        judged = self.verdicts()
        ranking = self.ranker.rank(judged)
        own = [verdict.object_id for verdict in judged if any(mark.who == self.who for mark in verdict.marks)]
        return offers(ranking, self.survey.rows_of(own), self.survey, k, seed=self.book.version)

    def upload(self, content: bytes) -> str:
        """Embed a FITS file, keep it for this session, and return its digest."""
        digest = hashlib.sha256(content).hexdigest()[:16]
        with self._upload_lock:
            if digest not in self.uploads:
                with tempfile.TemporaryDirectory() as folder:
                    self.uploads[digest] = load_uploaded(content, Path(folder), self.survey, self.settings)
                while len(self.uploads) > MOST_UPLOADS:
                    self.uploads.pop(next(iter(self.uploads)))
        return digest

    def mark(self, given: Sequence[GivenMark]) -> list[Mark]:
        """Write marks to the disk, all or none.

        Raises
        ------
        TidalkinError
            If the label or the object is unknown, or the disk refuses.
        """
        for one in given:
            if not one.undoes and one.label not in self.labels.labels:
                raise TidalkinError(
                    f"label {one.label!r} is not one of {', '.join(self.labels.labels)}: choose one of them"
                )
        self.survey.rows_of([one.object_id for one in given])
        return self.book.extend([self._mark(one) for one in given])

    def _mark(self, given: GivenMark) -> Mark:
        """Make a mark of this moment."""
        details = given.model_dump(exclude={"object_id", "label", "who"})
        return new_mark(given.object_id, given.label, given.who or self.who, **self._origin, **details)

    def undo(self, uuid: str, who: str) -> Mark | None:
        """Undo the last mark of a person, and return that mark, if any.

        Marks of objects that have left the catalog stay, since no page shows them.
        """
        return self.book.undo_last(
            who or self.who, lambda object_id: bool(self.survey.has([object_id])[0]), uuid=uuid, **self._origin
        )

    @property
    def _origin(self) -> dict[str, str]:
        """The run and the encoder that judged galaxies are from."""
        return {"run": self.survey.name, "encoder": self.survey.whitening.encoder}

    def galaxies(self, found: Found) -> list[dict[str, Any]]:
        """Describe galaxies for the page."""
        survey, marks = self.survey, self.book.current()
        described = []
        for place, row in enumerate(found.rows.tolist()):
            object_id = int(survey.ids[row])
            galaxy: dict[str, Any] = {
                "id": str(object_id),
                "ra": float(survey.ra[row]),
                "dec": float(survey.dec[row]),
                "label": survey.labels[row],
                "marks": {who: mark.label for who, mark in marks.get(object_id, {}).items()},
            }
            if np.isfinite(survey.score[row]):
                galaxy |= {"score": float(survey.score[row]), "percentile": float(survey.percentile[row])}
            for name, values in (("similarity", found.similarity), ("probability", found.probability)):
                if values is not None:
                    galaxy[name] = float(values[place])
            described.append(galaxy)
        return described


def create_app(explorer: Explorer, token: str) -> FastAPI:
    """Make the application: the API below ``/api/`` and the page.

    Parameters
    ----------
    explorer : Explorer
        The state that it serves.
    token : str
        The secret of the guard. Addresses that are sent to other programs hold it.

    Returns
    -------
    fastapi.FastAPI
        Unguarded: wrap it in `tidalkin.explorer.guard.Guard`.

    Examples
    --------
    >>> explorer = Explorer(Survey("results/demo"), config.Settings(run="demo"), who="ada")
    >>> app = create_app(explorer, token="secret")
    >>> str(app.url_path_for("export", kind="vot"))
    '/api/export.vot'
    """
    app = FastAPI(title="tidalkin", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(TidalkinError, _error)
    app.add_exception_handler(RequestValidationError, _invalid)
    _add_lists(app, explorer)
    _add_galaxies(app, explorer)
    _add_pictures(app, explorer)
    _add_map(app, explorer)
    _add_labels(app, explorer)
    _add_samp(app, explorer, token)
    app.mount("/", StaticFiles(directory=PAGE, html=True, check_dir=False))
    return app


def _add_lists(app: FastAPI, explorer: Explorer) -> None:
    """Add the lists of galaxies and their export."""
    survey = explorer.survey

    @app.get("/api/meta")
    def meta() -> dict[str, Any]:
        """Describe the run."""
        labels = explorer.labels
        return {
            "run": survey.name,
            "version": __version__,
            "digest": explorer.digest,
            "galaxies": len(survey.ids),
            "searched": len(survey.index.ids),
            "bands": survey.store.bands,
            "size": survey.store.size,
            "sheet_columns": SHEET_COLUMNS,
            "has_scores": survey.has_scores,
            "has_maps": explorer.pictures.has_maps,
            "has_sky_map": explorer.chart.exists,
            "map_colours": explorer.chart.colour_names,
            "labels": labels.labels,
            "positives": labels.positives,
            "negative": labels.negative,
            "unsure": labels.unsure,
            "who": explorer.who,
            "debris_weight": explorer.settings.search.debris_weight,
            "columns": survey.columns,
        }

    @app.get("/api/galaxies")
    def galaxies(ask: Annotated[Ask, Query()]) -> dict[str, Any]:
        """List the galaxies of a request."""
        found = explorer.find(ask)
        return {"galaxies": explorer.galaxies(found), "total": found.total}

    @app.get("/api/offers")
    def next_galaxies(k: Annotated[int, Query(ge=3, le=MOST_THUMBNAILS)] = 20) -> dict[str, Any]:
        """List the galaxies to judge next, with how each was chosen."""
        chosen = explorer.offers(k)
        rows = np.array([offer.row for offer in chosen], np.int64)
        described = explorer.galaxies(Found(rows, len(rows)))
        for galaxy, offer in zip(described, chosen, strict=True):
            galaxy |= {"strategy": offer.strategy, "rank": offer.rank, "probability": offer.probability}
        return {"galaxies": described, "total": len(survey.index.ids)}

    @app.get("/api/export.{kind}")
    def export(kind: str, ask: Annotated[Ask, Query()]) -> Response:
        """Write the galaxies of a request to a file."""
        if kind not in MEDIA_TYPES:
            raise TidalkinError(f"format {kind!r} is unknown: use one of {', '.join(MEDIA_TYPES)}")
        judged = {verdict.object_id: verdict for verdict in explorer.verdicts()}
        content = encode(table_of(explorer.find(ask.for_export()), survey, judged), kind)
        # RFC 6266: headers hold ASCII only, and the name of a folder may not.
        name = quote(f"tidalkin-{survey.name}-{ask.start}.{kind}")
        headers = {"Content-Disposition": f"attachment; filename*=utf-8''{name}"}
        return Response(content, media_type=MEDIA_TYPES[kind], headers=headers)

    @app.get("/api/locate")
    def find_place(text: Annotated[str, Query(max_length=200)]) -> dict[str, Any]:
        """Find the galaxy of an object_id or a position."""
        row, distance = locate(text, survey)
        return {"id": str(survey.ids[row]), "distance_arcsec": distance}


def _add_galaxies(app: FastAPI, explorer: Explorer) -> None:
    """Add what is known of single galaxies, and uploads."""
    survey = explorer.survey

    @app.get("/api/galaxy")
    def galaxy(id: Thumbnails) -> list[dict[str, Any]]:
        """Describe a few galaxies, with all their columns and links."""
        rows = survey.rows_of(id)
        described = explorer.galaxies(Found(rows, len(rows)))
        for one, row in zip(described, rows.tolist(), strict=True):
            one["columns"] = {name: _plain(value) for name, value in survey.describe(row).items()}
            one["links"] = links(one["ra"], one["dec"])
            one["has_vector"] = bool(survey.vector_rows[row] >= 0)
        return described

    @app.post("/api/upload")
    async def upload(request: Request) -> dict[str, str]:
        """Embed the FITS file that is the request's body."""
        content = b""
        async for part in request.stream():
            content += part
            if len(content) > LARGEST_UPLOAD:
                raise TidalkinError(f"the upload is larger than {LARGEST_UPLOAD >> 20} MiB: give a smaller cutout")
        return {"upload": await asyncio.to_thread(explorer.upload, content)}


def _add_pictures(app: FastAPI, explorer: Explorer) -> None:
    """Add thumbnails, large images and debris maps."""
    pictures, survey = explorer.pictures, explorer.survey

    @app.get("/api/sheet.jpg")
    def sheet(request: Request, id: Thumbnails, look: Annotated[Look, Query()]) -> Response:
        """Draw thumbnails on one sheet."""
        rows = survey.rows_of(id)
        return _picture(request, explorer, "image/jpeg", lambda: pictures.sheet(rows, look.bands, look.stretch))

    @app.get("/api/maps.png")
    def maps(request: Request, id: Thumbnails) -> Response:
        """Draw debris maps on one sheet, to lie above the thumbnails."""
        rows = survey.rows_of(id)
        return _picture(request, explorer, "image/png", lambda: Picture(pictures.map_sheet(rows)))

    @app.get("/api/image.png")
    def image(request: Request, id: ObjectId, look: Annotated[Look, Query()]) -> Response:
        """Draw one galaxy."""
        row = int(survey.rows_of([id])[0])
        return _picture(request, explorer, "image/png", lambda: Picture(pictures.large(row, look.bands, look.stretch)))

    @app.get("/api/upload.png")
    def uploaded(request: Request, upload: str, look: Annotated[Look, Query()]) -> Response:
        """Draw an uploaded galaxy."""
        if upload not in explorer.uploads:
            raise TidalkinError(LOST_UPLOAD)
        content = pictures.uploaded(explorer.uploads[upload], look.bands, look.stretch)
        return Response(content, media_type="image/png", headers=_kept(request, explorer))


def _kept(request: Request, explorer: Explorer) -> dict[str, str]:
    """Let the browser keep an answer whose address names this run."""
    return {"Cache-Control": FOREVER if request.query_params.get("v") == explorer.digest else "no-cache"}


def _picture(request: Request, explorer: Explorer, media_type: str, draw: Callable[[], Picture]) -> Response:
    """Answer with a picture that the browser may keep, unless it lacks an image.

    Its address holds all that it depends on.
    """
    tag = hashlib.sha256(f"{explorer.digest} {request.url.path}?{request.url.query}".encode()).hexdigest()[:16]
    headers = {"ETag": f'"{tag}"', **_kept(request, explorer)}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    picture = draw()
    if not picture.is_whole:
        headers = {"Cache-Control": "no-store"}
    return Response(picture.content, media_type=media_type, headers=headers)


def _add_map(app: FastAPI, explorer: Explorer) -> None:
    """Add the points of the map, their colours, and a picture for browsers without WebGL."""
    chart = explorer.chart

    @app.get("/api/map/points")
    def points(request: Request) -> Response:
        """Give the places of the points."""
        return Response(chart.points(), media_type="application/octet-stream", headers=_kept(request, explorer))

    @app.get("/api/map/colours")
    def colours(request: Request, by: str) -> Response:
        """Give one byte for each point."""
        return Response(chart.colours(by), media_type="application/octet-stream", headers=_kept(request, explorer))

    @app.get("/api/map/density.png")
    def density(request: Request, by: str) -> Response:
        """Draw the density of galaxies."""
        return Response(chart.density(by), media_type="image/png", headers=_kept(request, explorer))

    @app.get("/api/map/nearest")
    def nearest(x: float, y: float) -> dict[str, str]:
        """Name the galaxy nearest to a place of the map."""
        return {"id": str(explorer.survey.ids[chart.nearest(x, y)])}


def _add_labels(app: FastAPI, explorer: Explorer) -> None:
    """Add marks, undo and progress."""
    book = explorer.book

    @app.post("/api/marks")
    def marks(given: list[GivenMark], background: BackgroundTasks) -> dict[str, Any]:
        """Write marks; answer when they are on the disk."""
        written = explorer.mark(given)
        background.add_task(explorer.write_table)
        return {"marks": [mark.uuid for mark in written], "version": book.version}

    @app.post("/api/undo")
    def undo(
        uuid: Annotated[str, Query(min_length=8, max_length=64)],
        background: BackgroundTasks,
        who: Annotated[str, Query(max_length=100)] = "",
    ) -> dict[str, Any]:
        """Undo the last mark of a person; ``uuid`` is that of the new line."""
        last = explorer.undo(uuid, who)
        if last is None:
            return {"undone": None, "version": book.version}
        background.add_task(explorer.write_table)
        return {"undone": {"id": str(last.object_id), "label": last.label}, "version": book.version}

    @app.get("/api/progress")
    def progress() -> dict[str, Any]:
        """Count the marks, and estimate how many positives are left."""
        judged = explorer.verdicts()
        names = Counter(DISAGREEMENT if verdict.disagreement else verdict.label for verdict in judged)
        known = [label for label in explorer.labels.labels if label in names]
        counts = {name: names[name] for name in [*known, *sorted(set(names) - set(known))]}
        return {"version": book.version, "counts": counts, **audit(judged, len(explorer.survey.ids)).content()}

    @app.get("/api/version")
    def version() -> dict[str, Any]:
        """Tell whether labels or the run changed; pages ask often."""
        return {"version": book.refresh(), "digest": explorer.digest}


def _add_samp(app: FastAPI, explorer: Explorer, token: str) -> None:
    """Add messages to other programs, such as TOPCAT and Aladin."""
    survey = explorer.survey

    @app.post("/api/samp/table")
    def table(request: Request, ask: Annotated[Ask, Query()]) -> dict[str, list[str]]:
        """Send the address of a list of galaxies as a VOTable."""
        explorer.find(ask)  # a fault is said here, not in the other program
        pairs = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
        # The other program is on this machine, where no tunnel changes the port.
        port = request.scope["server"][1]
        url = request.url.replace(path="/api/export.vot", query=urlencode([*pairs, ("token", token)]), port=port)
        return {"receivers": send_table(str(url), f"{survey.name}: {ask.start}")}

    @app.post("/api/samp/position")
    def position(id: ObjectId) -> dict[str, list[str]]:
        """Send the position of a galaxy."""
        row = int(survey.rows_of([id])[0])
        return {"receivers": send_position(float(survey.ra[row]), float(survey.dec[row]))}


def _state_of(*files: Path) -> list[tuple[int, int] | None]:
    """Return the time and size of each file, None where there is none."""
    return [(file.stat().st_mtime_ns, file.stat().st_size) if file.exists() else None for file in files]


def _plain(value: Any) -> Any:
    """Return a value that JSON holds exactly: long integers as text, NaN as None."""
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53:
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


async def _error(_: Request, error: Exception) -> JSONResponse:
    """Answer a request that cannot be met with its sentence."""
    return JSONResponse({"error": str(error)}, 400)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """Answer a request with a bad value with a sentence."""
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    name = ".".join(str(part) for part in fault["loc"][1:])
    return JSONResponse({"error": f"{name or 'the request'}: {fault['msg']}"}, 422)
