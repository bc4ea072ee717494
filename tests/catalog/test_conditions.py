"""Conditions on numeric columns, read without running anything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidalkin.catalog.conditions import LONGEST, matches
from tidalkin.errors import TidalkinError

TABLE = {
    "tail": np.array([0.9, 0.4, 0.1, np.nan]),
    "fan": np.array([0.0, 0.6, np.nan, 0.7]),
    "R.A.": np.array([10.0, 20.0, 30.0, 40.0]),
    "größe": np.array([1.0, 2.0, 3.0, 4.0]),
}


def found(condition):
    return np.flatnonzero(np.broadcast_to(matches(condition, TABLE.__getitem__), 4)).tolist()


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("tail > 0.5", [0]),
        ("tail>=.4", [0, 1]),
        ("0.2 < tail <= 0.9", [0, 1]),
        ("tail > 0.5 or fan > 0.5", [0, 1, 3]),
        ("tail > 0.3 and fan > 0.3", [1]),
        ("not (tail > 0.5)", [1, 2]),
        ("tail != 0.1", [0, 1]),
        ("fan == 0", [0]),
        ("`R.A.` < 25", [0, 1]),
        ("größe > 2 and `R.A.` < 35", [2]),
        ("`größe` + `R.A.`/10 > 5", [2, 3]),
        ("-tail * 2 + 1 < 0.5 - (+fan)", [0]),
        ("fan / tail > 0", [1]),
        ("1 / fan > 1", [1, 3]),
        ("1 < 2", [0, 1, 2, 3]),
        ("  tail > 0.5\nor fan > 0.65 ", [0, 3]),
    ],
)
def test_a_condition_chooses_rows(condition, rows):
    assert found(condition) == rows


def test_a_missing_value_fulfils_neither_a_condition_nor_its_opposite():
    assert 3 not in found("tail > 0.5") + found("not tail > 0.5") + found("tail != 0.5")


@pytest.mark.parametrize(
    ("condition", "position"),
    [
        ("tail >> 0.5", 1),
        ("tail > ", 6),
        ("tail = 0.5", 1),
        ("tail", 1),
        ("tail > 0.5 and fan", 16),
        ("(tail > 0.5) + 1 > 0", 2),
        ("`R.A.` > 1 and open('x') > 0", 16),
        ("größe > 1 and größe.real > 0", 15),
        ("tail > 'a'", 8),
        ("tail > True", 8),
        ("tail > 1j", 8),
        ("tail in [1]", 1),
        ("tail ** 2 > 1", 1),
        ("[x for x in (1,)]", 1),
        ("(lambda: 1)() > 0", 1),
        ("tail if fan else 1", 1),
        ("(tail := 1) > 0", 2),
        ("__import__('os').system('true') > 0", 1),
        ("`R.A. > 1", 1),
        ("", 1),
        ("((((((" * 60, 1),
    ],
)
def test_anything_else_is_refused_with_its_position(condition, position):
    with pytest.raises(TidalkinError, match=r"(?s)the condition .* at position \d+: use comparisons") as fault:
        found(condition)
    if "((((" not in condition and condition not in ("tail > ", "tail = 0.5", "`R.A. > 1", ""):
        assert f"at position {position}:" in str(fault.value)


def test_a_condition_of_absurd_length_is_refused():
    with pytest.raises(TidalkinError, match=f"longer than {LONGEST} characters"):
        found("tail > 0" + " + 1" * LONGEST)


@given(st.text(alphabet="tailfn`<>=!&|+-*/() 0.5andotr_[]{}:,'\\\n", max_size=40))
def test_any_text_is_a_condition_or_one_sentence(text):
    try:
        rows = found(text)
    except (TidalkinError, KeyError):  # not a condition, or a column that the table lacks
        rows = []
    assert set(rows) <= {0, 1, 2, 3}
