"""Label the galaxies of a catalog by conditions on its numeric columns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from tidalkin.catalog.conditions import matches
from tidalkin.catalog.table import WORDS_FOR_MISSING
from tidalkin.errors import TidalkinError


def label_from(
    catalog: pd.DataFrame, conditions: Mapping[str, str], columns: Mapping[str, str], name: str
) -> pd.DataFrame:
    """Label each galaxy by the first condition that it fulfils.

    Parameters
    ----------
    catalog : pandas.DataFrame
        A checked catalog. A column `label` that it has is kept as `label_in_file`.
    conditions : mapping of str to str
        The condition of each label, in order: see `tidalkin.catalog.conditions`.
    columns : mapping of str to str
        The file's column for some of ours; conditions may use both names.
    name : str
        Name of the catalog, for error messages.

    Returns
    -------
    pandas.DataFrame
        The catalog with a column `label`; missing where a galaxy fulfils no condition.

    Raises
    ------
    TidalkinError
        If a condition cannot be read, names a column that is missing or not numeric, or labels no galaxy.

    Examples
    --------
    >>> rows = pd.DataFrame({"object_id": [7, 8, 9], "tail": [0.9, 0.1, np.nan]})
    >>> conditions = {"tail": "tail > 0.5", "none": "tail < 0.2"}
    >>> label_from(rows, conditions, {}, "my catalog")["label"].tolist()
    ['tail', 'none', nan]
    """
    ours = {theirs: key for key, theirs in columns.items()}

    def numbers(column: str) -> npt.NDArray[np.float64]:
        return _numbers(catalog, ours.get(column, column), name)

    label = np.full(len(catalog), None, dtype=object)
    for word, condition in conditions.items():
        try:
            chosen = np.broadcast_to(matches(condition, numbers), len(catalog))
        except TidalkinError as error:
            raise TidalkinError(f"catalog.label_from: {word}: {error}") from None
        free = chosen & pd.isna(label)
        if not free.any():
            fault = "only galaxies that an earlier condition labels" if chosen.any() else "no galaxy"
            raise TidalkinError(
                f"catalog.label_from: {word}: `{condition}` matches {fault} of {name}: change or remove it"
            )
        label[free] = word
    kept = catalog.rename(columns={"label": "label_in_file"})
    return kept.assign(label=pd.Series(label, index=catalog.index, dtype="str"))


def _numbers(catalog: pd.DataFrame, column: str, name: str) -> npt.NDArray[np.float64]:
    """Return the numbers of a column (row,), NaN where missing."""
    if column not in catalog:
        raise TidalkinError(f"{name} has no column {column!r}; it has: {', '.join(map(str, catalog.columns))}")
    values = catalog[column]
    if not pd.api.types.is_numeric_dtype(values):
        text = values.astype("str").str.strip()
        values = text.mask(text.isin(WORDS_FOR_MISSING))
    numbers = pd.to_numeric(values, errors="coerce")
    wrong = numbers.isna() & values.notna()
    if wrong.any():
        raise TidalkinError(
            f"{name} has the value {str(values[wrong].iloc[0])!r} in the column {column!r}, but a condition compares "
            "numbers: use a numeric column"
        )
    return numbers.to_numpy(np.float64, na_value=np.nan)
