"""Export lists of galaxies as tables or DS9 regions, and link to sky viewers."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
from astropy.table import Table

from tidalkin.config.explorer import DISAGREEMENT
from tidalkin.explorer.ask import Found
from tidalkin.explorer.labels import Verdict
from tidalkin.explorer.survey import Survey
from tidalkin.search.fits_text import with_fits_text

MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "fits": "application/fits",
    "vot": "application/x-votable+xml",
    "reg": "text/plain; charset=utf-8",
}
REGION_RADIUS_ARCSEC = 5.0


def table_of(found: Found, survey: Survey, judged: Mapping[int, Verdict]) -> Table:
    """Make a table of galaxies: rank, object_id, ra, dec, and what is known of each.

    Parameters
    ----------
    found : Found
        The galaxies.
    survey : Survey
        Their run.
    judged : mapping of int to Verdict
        The verdicts, by object_id.

    Returns
    -------
    astropy.table.Table
        Columns rank, object_id, ra, dec (deg), debris_score, similarity, probability, label (of the catalog) and
        judged, the last four only where there is any.

    Examples
    --------
    >>> survey = Survey("results/demo")
    >>> table = table_of(Found(survey.by_score[:3], total=60), survey, judged={})
    >>> len(table), table.colnames
    (3, ['rank', 'object_id', 'ra', 'dec', 'debris_score', 'label'])
    """
    rows = found.rows
    table = Table(
        {
            "rank": np.arange(1, len(rows) + 1, dtype=np.int32),
            "object_id": survey.ids[rows],
            "ra": survey.ra[rows],
            "dec": survey.dec[rows],
        }
    )
    table["ra"].unit = table["dec"].unit = "deg"
    if survey.has_scores:
        table["debris_score"] = survey.score[rows]
    for name, values in (("similarity", found.similarity), ("probability", found.probability)):
        if values is not None:
            table[name] = values
    verdicts = [judged.get(int(object_id)) for object_id in survey.ids[rows]]
    texts = {
        "label": [survey.labels[row] for row in rows.tolist()],
        "judged": [_judged(verdict) for verdict in verdicts],
    }
    for name, words in texts.items():
        if any(words):
            table[name] = np.array(words, np.str_)
    table.meta["run"] = survey.name
    return table


def _judged(verdict: Verdict | None) -> str:
    if verdict is None:
        return ""
    return DISAGREEMENT if verdict.disagreement else verdict.label


def encode(table: Table, kind: str) -> bytes:
    """Write a table in one of the formats of `MEDIA_TYPES`.

    In FITS, which holds ASCII only, other characters are escaped: see `tidalkin.search.fits_text`.

    Examples
    --------
    >>> table = Table({"object_id": [7], "ra": [150.1], "dec": [2.2]})
    >>> encode(table, "csv").decode().splitlines()
    ['object_id,ra,dec', '7,150.1,2.2']
    """
    if kind == "csv":
        return _csv(table)
    if kind == "reg":
        return _regions(table).encode()
    buffer = io.BytesIO()
    if kind == "fits":
        with_fits_text(table).write(buffer, format="fits")
    else:
        table.write(buffer, format="votable")
    return buffer.getvalue()


def _csv(table: Table) -> bytes:
    buffer = io.StringIO()
    table.to_pandas().to_csv(buffer, index=False)
    return buffer.getvalue().encode()


def _regions(table: Table) -> str:
    lines = ["# Region file format: DS9 version 4.1", "global color=yellow", "icrs"]
    for row in table:
        lines.append(
            f'circle({row["ra"]:.7f},{row["dec"]:.7f},{REGION_RADIUS_ARCSEC:g}") # text={{{row["object_id"]}}}'
        )
    return "\n".join(lines) + "\n"


def links(ra: float, dec: float) -> dict[str, str]:
    """Return the addresses of sky viewers at a position in degrees.

    Examples
    --------
    >>> links(150.1, 2.2)["Legacy Survey Viewer"]
    'https://www.legacysurvey.org/viewer?ra=150.1&dec=2.2&layer=ls-dr10&zoom=15'
    """
    view: dict[str, Any] = {"view": {"a": math.radians(ra), "d": math.radians(dec), "fovy": 1e-4, "roll": 0}}
    place = {"ra": f"{ra:.7g}", "dec": f"{dec:.7g}"}
    return {
        "hscMap": "https://hsc-release.mtk.nao.ac.jp/hscMap-pdr3/app/#/?_=" + quote(json.dumps(view)),
        "Legacy Survey Viewer": "https://www.legacysurvey.org/viewer?"
        + urlencode({**place, "layer": "ls-dr10", "zoom": 15}),
        "Aladin Lite": "https://aladin.cds.unistra.fr/AladinLite/?"
        + urlencode(
            {"target": f"{place['ra']} {place['dec']}", "fov": 0.01, "survey": "CDS/P/DESI-Legacy-Surveys/DR10/color"}
        ),
    }
