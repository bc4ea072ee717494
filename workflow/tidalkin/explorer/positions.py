"""Find a galaxy from what a person types: an object_id or a position."""

from __future__ import annotations

import re

import numpy as np

from tidalkin.config import LEAST_OBJECT_ID, MOST_OBJECT_ID
from tidalkin.config.search import checked_position
from tidalkin.errors import TidalkinError
from tidalkin.explorer.survey import Survey

MINUS = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"))
"""Signs that papers and their programs write for a minus."""


def locate(text: str, survey: Survey) -> tuple[int, float | None]:
    """Find the catalog row of an object_id, or the one nearest to a position.

    Parameters
    ----------
    text : str
        A whole number, or right ascension and declination: ``150.1 2.2``, ``10:00:24 +02:12:00``,
        ``10h00m24s +2d12m``. See `parse_position`.
    survey : Survey
        The run.

    Returns
    -------
    row : int
        The catalog row.
    distance_arcsec : float or None
        Its distance from the position; None for an object_id.

    Raises
    ------
    TidalkinError
        If the text is neither, or the catalog lacks the object.

    Examples
    --------
    >>> survey = Survey("results/demo")
    >>> locate("42", survey)
    (41, None)
    >>> row, distance_arcsec = locate("150.42 2.42", survey)
    >>> row, round(distance_arcsec, 3)
    (41, 0.0)
    """
    text = text.strip().translate(MINUS)
    if re.fullmatch(r"[+-]?\d{1,100}", text, re.ASCII):
        object_id = int(text)
        if not LEAST_OBJECT_ID <= object_id <= MOST_OBJECT_ID:
            raise TidalkinError(f"object {object_id} is longer than 63 bits: name an object_id of the catalog")
        return int(survey.rows_of(np.array([object_id]))[0]), None
    ra, dec = parse_position(text)
    return survey.nearest(ra, dec)


def parse_position(text: str) -> tuple[float, float]:
    """Read right ascension and declination in degrees or sexagesimal.

    Two plain numbers are degrees, in any form that Python reads as a number. All else is read by astropy: right
    ascension in hours, and declination in degrees, unless units are given.

    Raises
    ------
    TidalkinError
        If the text is no position, or a number is out of range.

    Examples
    --------
    >>> parse_position("150.1, -2.2"), parse_position("150.1d \u22122.2d"), parse_position("1.5e2 .5")
    ((150.1, -2.2), (150.1, -2.2), (150.0, 0.5))
    >>> ra, dec = parse_position("10:00:24 +02:12:00")
    >>> round(ra, 4), round(dec, 4)
    (150.1, 2.2)
    """
    from astropy import units
    from astropy.coordinates import Angle

    try:
        ra_text, dec_text = _two_angles(text.translate(MINUS))
        if _is_number(ra_text):
            # Beside a declination like +02:12:00, a plain number could also be hours: it is refused.
            ra, dec = float(ra_text), float(dec_text)
        else:
            ra = float(Angle(ra_text, units.hourangle).deg)
            dec = float(dec_text) if _is_number(dec_text) else float(Angle(dec_text, units.deg).deg)
    except (ValueError, TypeError, units.UnitsError):
        raise TidalkinError(
            f"{text!r} is neither an object_id nor a position: write 150.1 2.2 or 10:00:24 +02:12:00"
        ) from None
    try:
        return checked_position((ra, dec))
    except ValueError as error:
        raise TidalkinError(f"position {error}") from None


def _two_angles(text: str) -> tuple[str, str]:
    """Split a position at the comma, before the declination's sign, or in the middle.

    A second comma is refused. In some languages it is the decimal point, and `10,5 2,2` would be ten hours and five
    minutes.
    """
    words = text.split()
    if "," in text:
        ra, dec = text.split(",")
    elif signed := [place for place, word in enumerate(words) if place and word[0] in "+-"]:
        ra, dec = " ".join(words[: signed[0]]), " ".join(words[signed[0] :])
    elif len(words) > 1:
        ra, dec = " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])
    else:
        ra, sign, dec = re.split(r"(?<=.)([+-])", text)
        dec = sign + dec
    return ra.strip(), dec.strip()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
