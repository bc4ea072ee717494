"""A typed text is read as one galaxy or one position, or is refused."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import Angle
from hypothesis import given
from hypothesis import strategies as st

from tidalkin.config import LEAST_OBJECT_ID, MOST_OBJECT_ID
from tidalkin.errors import TidalkinError
from tidalkin.explorer.positions import locate, parse_position

MINUS = "\u2212"
DEGREES = {
    "shortest": repr,
    "fixed": "{:.9f}".format,
    "no leading zero": lambda value: f"{value:.9f}".replace("0.", ".", 1) if abs(value) < 1 else repr(value),
    "exponent": "{:.12e}".format,
    "sign": "{:+.9f}".format,
    "Unicode minus": lambda value: repr(value).replace("-", MINUS),
}


def sexagesimal(**options):
    """Write hours and degrees with astropy."""
    ra, dec = ({"unit": unit, "precision": 7, "alwayssign": unit == u.deg, **options} for unit in (u.hourangle, u.deg))
    return (lambda value: Angle(value, u.deg).to_string(**ra), lambda value: Angle(value, u.deg).to_string(**dec))


FORMS = {
    **{name: (form, form) for name, form in DEGREES.items()},
    "degree sign": ("{:.9f}°".format, lambda dec: f"{dec:+.9f}°".replace("-", MINUS)),
    "colons": sexagesimal(sep=":"),
    "spaces": sexagesimal(sep=" "),
    "letters": sexagesimal(alwayssign=False),
    "prime signs": sexagesimal(format="unicode"),
}


@given(
    ra=st.floats(-180, 360),
    dec=st.floats(-90, 90),
    form=st.sampled_from(sorted(FORMS)),
    between=st.sampled_from([" ", ", ", ",", "\t", "   "]),
)
def test_a_position_in_any_form_is_read_as_it_was_written(ra, dec, form, between):
    form_ra, form_dec = FORMS[form]
    if form not in DEGREES:
        ra %= 360
    read_ra, read_dec = parse_position(f" {form_ra(ra)}{between}{form_dec(dec)}")
    assert abs((read_ra - ra + 180) % 360 - 180) < 1e-7
    assert read_dec == pytest.approx(dec, abs=1e-7)
    assert 0 <= read_ra <= 360


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("150.1 .5", (150.1, 0.5)),
        (".5 2", (0.5, 2)),
        ("1.501e2 2.2", (150.1, 2.2)),
        ("150.1 \u22122.2", (150.1, -2.2)),
        ("150.1 \u20132.2", (150.1, -2.2)),
        ("360 5", (0, 5)),
        ("-10 5", (350, 5)),
        ("10h 2.2", (150, 2.2)),
        ("10h00m24s+2d12m", (150.1, 2.2)),
        ("10:00:24\u221202:12", (150.1, -2.2)),
        ("10 00 24 +02 12", (150.1, 2.2)),
    ],
)
def test_plain_numbers_are_degrees_and_others_are_sexagesimal(text, expected):
    assert parse_position(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["400 5", "-181 5", "5 91", "nan 5", "5 inf", "400d 5d", "10h 95:00:00", "2e99 0"])
def test_a_position_out_of_range_is_refused_and_not_wrapped(text):
    with pytest.raises(TidalkinError, match=r"must have a right ascension in 0\.\.360 and a declination in -90\.\.90"):
        parse_position(text)


@pytest.mark.parametrize(
    "text",
    ["", "-", "M51", "150.1", "10,5 2,2", "150,1 2,2", "10 +02:12:00", "25:00:00 2:00:00", "1 2 3", ", 5"],
)
def test_what_is_no_position_or_could_be_two_is_refused(text):
    with pytest.raises(TidalkinError, match="is neither an object_id nor a position: write"):
        parse_position(text)


class Catalog:
    """A survey of three objects, by id."""

    ids = np.array([LEAST_OBJECT_ID, -5, 1237648720693755927, MOST_OBJECT_ID])

    def rows_of(self, object_ids):
        return np.searchsorted(self.ids, object_ids)


def test_every_possible_id_can_be_typed():
    for row, object_id in enumerate(Catalog.ids.tolist()):
        assert locate(f" {object_id} ", Catalog()) == (row, None)
    assert locate("\u22125", Catalog()) == (1, None)


@pytest.mark.parametrize("object_id", [LEAST_OBJECT_ID - 1, MOST_OBJECT_ID + 1])
def test_an_id_that_no_catalog_can_hold_is_refused(object_id):
    with pytest.raises(TidalkinError, match=f"object {object_id} is longer than 63 bits: name an object_id"):
        locate(str(object_id), Catalog())
