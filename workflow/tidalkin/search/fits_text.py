r"""Write text to FITS files, which hold ASCII only.

Other characters, and the backslash, become Python's escapes: ``Schweif-ü`` is written as ``Schweif-\xfc``. Nothing is
lost, since ``text.encode().decode("unicode_escape")`` gives the text back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from astropy.table import Table


def fits_text(text: str) -> str:
    r"""Return a text with all characters that FITS cannot hold as escapes.

    Examples
    --------
    >>> print(fits_text("shell"), fits_text("Schweif-ü"))
    shell Schweif-\xfc
    """
    return text.encode("unicode_escape").decode("ascii")


def with_fits_text(table: Table) -> Table:
    r"""Return a copy of a table, with `fits_text` in its columns and ``meta``.

    Examples
    --------
    >>> from astropy.table import Table
    >>> print(with_fits_text(Table({"object_id": [7], "label": ["Schweif-ü"]}))["label"][0])
    Schweif-\xfc
    """
    escaped = table.copy()
    for name in table.colnames:
        if table[name].dtype.kind == "U":
            escaped[name] = np.array([fits_text(text) for text in table[name].tolist()], np.str_)
    escaped.meta = {key: fits_text(value) if isinstance(value, str) else value for key, value in table.meta.items()}
    return escaped
