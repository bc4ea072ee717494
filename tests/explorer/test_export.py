"""Exported lists are read by other programs, whatever the labels are."""

import io

import pandas as pd
import pytest
from astropy.io.votable import parse_single_table
from astropy.table import Table

from tidalkin.explorer.export import encode

LABELS = ["Schweif-ü", "潮汐尾", r"a\b", "shell"]


@pytest.fixture
def table():
    table = Table({"object_id": range(4), "label": LABELS})
    table.meta["run"] = "Läufe"
    return table


def test_a_label_that_is_not_ascii_is_escaped_in_fits(table):
    written = Table.read(io.BytesIO(encode(table, "fits")))
    assert [text.encode().decode("unicode_escape") for text in written["label"]] == LABELS
    assert written.meta["RUN"] == r"L\xe4ufe"
    assert table["label"].tolist() == LABELS


def test_other_formats_hold_every_label_as_it_is(table):
    assert pd.read_csv(io.BytesIO(encode(table, "csv")))["label"].tolist() == LABELS
    assert parse_single_table(io.BytesIO(encode(table, "vot"))).to_table()["label"].tolist() == LABELS
