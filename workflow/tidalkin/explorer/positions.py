"""Find a galaxy from what a person types: an object_id or a position."""

from __future__ import annotations

import re

import numpy as np

from tidalkin.errors import TidalkinError
from tidalkin.explorer.survey import Survey


def locate(text: str, survey: Survey) -> tuple[int, float | None]:
    """Find the catalog row of an object_id, or the one nearest to a position.

    Parameters
    ----------
    text : str
        A whole number, or right ascension and declination: ``150.1 2.2``, ``10:00:24 +02:12:00``,
        ``10h00m24s +2d12m``.
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
    text = text.strip()
    if re.fullmatch(r"\d{1,18}", text, re.ASCII):
        return int(survey.rows_of(np.array([int(text)]))[0]), None
    ra, dec = parse_position(text)
    return survey.nearest(ra, dec)


def parse_position(text: str) -> tuple[float, float]:
    """Read right ascension and declination in degrees or sexagesimal.

    Examples
    --------
    >>> parse_position("150.1, -2.2")
    (150.1, -2.2)
    >>> ra, dec = parse_position("10:00:24 +02:12:00")
    >>> round(ra, 4), round(dec, 4)
    (150.1, 2.2)
    """
    from astropy import units
    from astropy.coordinates import SkyCoord

    plain = text.replace(",", " ")
    try:
        words = plain.split()
        is_degrees = len(words) == 2 and all(re.fullmatch(r"[+-]?\d+\.?\d*(d|°)?", word) for word in words)
        unit = units.deg if is_degrees else (units.hourangle, units.deg)
        position = SkyCoord(plain, unit=unit)
        return float(position.ra.deg), float(position.dec.deg)
    except (ValueError, TypeError, units.UnitsError):
        raise TidalkinError(
            f"{text!r} is neither an object_id nor a position: write 150.1 2.2 or 10:00:24 +02:12:00"
        ) from None
