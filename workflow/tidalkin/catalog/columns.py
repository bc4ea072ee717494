"""Find the columns of a catalog by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from tidalkin.errors import TidalkinError

# Names in use: HSC and LSST (object_id, i_ra), SDSS (objid), Gaia and Euclid (source_id, RA_ICRS), VizieR (RAJ2000),
# SExtractor (NUMBER, ALPHA_J2000). Case does not matter.
ALIASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "object_id": ("object_id", "objectid", "obj_id", "objid", "id", "source_id", "sourceid", "number"),
        "ra": ("ra", "i_ra", "ra_deg", "radeg", "raj2000", "ra_j2000", "ra_icrs", "alpha_j2000", "right_ascension"),
        "dec": (
            *("dec", "i_dec", "dec_deg", "decdeg", "dedeg", "dej2000", "decj2000", "dec_j2000", "de_icrs", "dec_icrs"),
            *("delta_j2000", "declination"),
        ),
    }
)


def find_columns(names: Sequence[str], columns: Mapping[str, str], file: str) -> dict[str, str]:
    """Find the file's column for each of ours.

    A name from the configuration comes first, then our own name, then the only known alias.

    Parameters
    ----------
    names : sequence of str
        Columns of the file.
    columns : mapping of str to str
        The configuration's ``catalog.columns``: the file's column for some of ours.
    file : str
        Name of the file, for error messages.

    Returns
    -------
    dict of str to str
        The file's column for `object_id`, `ra`, `dec` and each key of ``columns``.

    Raises
    ------
    TidalkinError
        If a column is missing or would have two uses, there are several candidates, or two columns of the file have
        one name that ``columns`` does not name.

    Examples
    --------
    >>> find_columns(["objid", "RAJ2000", "DEJ2000"], {}, "galaxies.csv")["ra"]
    'RAJ2000'
    """
    chosen = set(columns.values())  # of several with such a name, the first
    twice = next((name for i, name in enumerate(names) if name in names[:i] and name not in chosen), None)
    if twice is not None:
        raise TidalkinError(f"catalog {file} has several columns named {twice!r}: rename all but one of them")
    listed = ", ".join(names)
    for ours, theirs in columns.items():
        if theirs not in names:
            raise TidalkinError(
                f"catalog {file} has no column {theirs!r}, which catalog.columns names for {ours}; it has: {listed}"
            )
    found = dict(columns)
    for ours in ALIASES:
        if ours in found:
            continue
        known = _candidates(ours, [name for name in names if name not in chosen]) or _candidates(ours, names)
        if not known:
            raise TidalkinError(
                f"catalog {file} has no column for {ours} (its columns: {listed}): "
                f"name yours in the config, `catalog: {{columns: {{{ours}: YOUR_COLUMN}}}}`"
            )
        if len(known) > 1:
            raise TidalkinError(
                f"catalog {file} has several columns that could be {ours} ({', '.join(known)}): "
                f"choose one in the config, `catalog: {{columns: {{{ours}: {known[0]}}}}}`"
            )
        found[ours] = known[0]
    for ours, theirs in found.items():
        other = next((name for name in found if name != ours and found[name] == theirs), None)
        if other is not None:
            raise TidalkinError(
                f"catalog {file} cannot have its column {theirs!r} as both {ours} and {other}: name another column for "
                "one of them in catalog.columns, or write a copy of it to the file"
            )
    return found


def _candidates(ours: str, names: Sequence[str]) -> list[str]:
    """Return our own name, if it is among the names, or else all aliases."""
    return [ours] if ours in names else [theirs for theirs in names if theirs.strip().lower() in ALIASES[ours]]


def told_apart(names: Sequence[str]) -> list[str]:
    """Number the second and later columns of one name.

    Examples
    --------
    >>> told_apart(["id", "R.A.", "R.A.", "R.A."])
    ['id', 'R.A.', 'R.A._2', 'R.A._3']
    """
    return [name if name not in names[:i] else f"{name}_{names[:i].count(name) + 1}" for i, name in enumerate(names)]
