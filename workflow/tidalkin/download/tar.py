"""The tar of a chunk: the FITS files of some hundred objects.

A tar member is named `<object_id>-<band>.fits`. Members are in the order in which the source yields them. They have
neither times nor owners, so that tar and ledger are byte-identical when the same cutouts are written again. A source
that has already packed its cutouts hands its tar over without a copy.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tidalkin.atomic import atomic_path, disk_errors
from tidalkin.cutouts.base import Cutout, TarLocation
from tidalkin.download.ledger import LEDGER_SCHEMA, LedgerRow, checksum
from tidalkin.download.tar_members import BLOCK, TAR_END, MemberHeader, padding, read_header, write_header
from tidalkin.errors import TidalkinError

logger = logging.getLogger(__name__)

PAX_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE)  # times and owners, in a tar that another program packed again
MEMBER_NAME = re.compile(r"(-?\d+)-([a-z]+)\.fits")


def member_name(object_id: int, band: str) -> str:
    """Return the name of a cutout in a chunk's tar.

    Examples
    --------
    >>> member_name(42, "g")
    '42-g.fits'
    """
    return f"{object_id}-{band}.fits"


def journal_folder(tar_path: str | Path) -> Path:
    """Return the hidden folder of a chunk's journal, beside the tars.

    It belongs to the chunk's number. A chunk some of whose rows or bands have changed finds the others there.

    Examples
    --------
    >>> journal_folder("cutouts/00003-5f0c1a92be.tar").as_posix()
    'cutouts/.received/00003'
    """
    tar_path = Path(tar_path)
    return tar_path.parent / ".received" / tar_path.stem.partition("-")[0]


def write_chunk(
    cutouts: Iterable[Cutout],
    objects: pd.DataFrame,
    bands: Sequence[str],
    tar_path: str | Path,
    ledger_path: str | Path,
) -> pd.DataFrame:
    """Write the cutouts of one chunk to a tar and a ledger.

    One cutout is in memory at a time.

    Parameters
    ----------
    cutouts : iterable of Cutout
        One for each object and band, in the order of ``objects`` and ``bands``.
    objects : pandas.DataFrame
        Catalog rows of the chunk.
    bands : sequence of str
        Bands, lower case.
    tar_path, ledger_path : str or Path
        Files to write. They appear when both are complete. An earlier version stays until then.

    Returns
    -------
    pandas.DataFrame
        The ledger: `object_id`, `band`, `status` (`ok`, `absent`, `failed`), `reason`, `bytes`, `checksum`.

    Raises
    ------
    TidalkinError
        If the source leaves out, repeats or invents a cutout, or the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> cutouts = [Cutout(7, "g", "ok", b"SIMPLE  ="), Cutout(7, "i", "absent", reason="outside the survey")]
    >>> objects = pd.DataFrame({"object_id": [7]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ledger = write_chunk(cutouts, objects, ["g", "i"], f"{folder}/a.tar", f"{folder}/a.ledger.parquet")
    >>> ledger[["object_id", "band", "status", "bytes"]]
       object_id band  status  bytes
    0          7    g      ok      9
    1          7    i  absent      0
    """
    expected = itertools.product(objects["object_id"].tolist(), bands)
    # The tar is renamed first, so that a ledger never exists without its tar.
    with atomic_path(ledger_path) as ledger_partial, atomic_path(tar_path) as tar_partial:
        rows = _write_tar(_checked(cutouts, expected), tar_partial)
        with disk_errors(ledger_path):
            columns = zip(*rows, strict=True) if rows else [()] * len(LEDGER_SCHEMA)
            ledger = pa.table(
                [pa.array(column, field.type) for column, field in zip(columns, LEDGER_SCHEMA, strict=True)],
                schema=LEDGER_SCHEMA,
            )
            pq.write_table(ledger, ledger_partial, compression="zstd")
    return ledger.to_pandas()


def _checked(cutouts: Iterable[Cutout], expected: Iterable[tuple[int, str]]) -> Iterator[Cutout]:
    """Yield the cutouts; raise at the first that is not the expected one."""
    remaining = iter(cutouts)
    for object_id, band in expected:
        cutout = _next(remaining)
        if cutout is None or (cutout.object_id, cutout.band) != (object_id, band):
            found = "nothing" if cutout is None else f"object {cutout.object_id} in {cutout.band}"
            raise TidalkinError(f"the source of the cutouts gave {found} where object {object_id} in {band} was due")
        is_ok = cutout.status == "ok"
        if is_ok != (cutout.size > 0) or is_ok == bool(cutout.reason):
            raise TidalkinError(
                f"the source of the cutouts gave object {object_id} in {band} as {cutout.status!r} "
                f"with {cutout.size} bytes and the reason {cutout.reason!r}"
            )
        yield cutout
    extra = _next(remaining)
    if extra is not None:
        raise TidalkinError(
            f"the source of the cutouts gave object {extra.object_id} in {extra.band}, which was not requested"
        )


def _next(cutouts: Iterator[Cutout]) -> Cutout | None:
    # An error of the source must not be mistaken for one of the disk that the tar is written to.
    try:
        return next(cutouts, None)
    except OSError as error:
        raise TidalkinError(f"the source of the cutouts failed: {error}") from error


def _write_tar(cutouts: Iterable[Cutout], path: Path) -> list[LedgerRow]:
    """Write the tar, and return the rows of its ledger."""
    rows: list[LedgerRow] = []
    locations: list[TarLocation] = []
    # A killed job may have left a hard link to the source's own tar here. That tar must not be truncated.
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        for cutout in cutouts:
            digest = cutout.checksum
            if cutout.location:
                locations.append(cutout.location)
            elif cutout.content:
                _write_member(file, member_name(cutout.object_id, cutout.band), cutout.content)
                digest = digest or checksum(cutout.content)
            rows.append((cutout.object_id, cutout.band, cutout.status, cutout.reason, cutout.size, digest))
        is_empty = not file.tell()
        file.write(TAR_END)
    if locations:
        if not is_empty:
            raise TidalkinError(f"the source of the cutouts packed some of those for {path} itself, but not all")
        _link_tar(locations, path)
    return rows


def _write_member(file: IO[bytes], name: str, content: bytes) -> None:
    file.write(write_header(name, len(content)))
    file.write(content)
    file.write(bytes(padding(len(content))))


def _link_tar(locations: Sequence[TarLocation], path: Path) -> None:
    """Use the source's own tar of exactly these cutouts, by a hard link."""
    tar, end = locations[0].tar, 0
    for location in sorted(locations, key=attrgetter("offset")):
        if location.tar != tar or location.offset != end + BLOCK:
            raise TidalkinError(
                f"{location.tar} is not the tar of a chunk: it has no cutout of the chunk at byte {end}"
            )
        end = location.offset + location.size + padding(location.size)
    if tar.stat().st_size != end + len(TAR_END):
        raise TidalkinError(f"{tar} is not the tar of a chunk: it does not end at byte {end}")
    path.unlink()
    try:
        path.hardlink_to(tar)
    except OSError as error:
        logger.warning(
            "%s cannot be hard-linked (%s) and is moved: if this chunk is fetched again, all of it is downloaded again",
            tar,
            error.strerror or error,
        )
        shutil.move(tar, path)
    os.utime(path)


class ChunkTar:
    """The cutouts of one chunk, readable in any order by any number of threads.

    Parameters
    ----------
    path : str or Path
        The tar. It stays open until `close`; each process opens its own.

    Raises
    ------
    TidalkinError
        If it is missing, cut short or not a tar.

    Examples
    --------
    >>> from tidalkin.config import Cutouts
    >>> from tidalkin.sources.fetch import fetch_chunk
    >>> objects = pd.DataFrame({"object_id": [42], "ra": [150.0], "dec": [2.0]})
    >>> _ = fetch_chunk(objects, Cutouts(bands=("g",)), 1, Path("00000.tar"), Path("00000.ledger.parquet"))
    >>> with ChunkTar("00000.tar") as chunk:
    ...     chunk.read(42, "g")[:9]  # a FITS file
    b'SIMPLE  ='
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise TidalkinError(f"{path} cannot be read ({error.strerror}): fetch the chunk again") from None
        try:
            self._members = self._index()
        except BaseException:
            self.close()
            raise

    def _index(self) -> dict[tuple[int, str], tuple[int, int]]:
        """Read offset and size in bytes of each cutout from the headers."""
        size = os.fstat(self._descriptor).st_size
        cut_short = f"{self.path} is cut short at {size} bytes: delete it to fetch the chunk again"
        if size < len(TAR_END) or os.pread(self._descriptor, len(TAR_END), size - len(TAR_END)) != TAR_END:
            raise TidalkinError(cut_short)
        found = {}
        offset = 0
        while (block := os.pread(self._descriptor, BLOCK, offset)) != TAR_END[:BLOCK]:
            member = self._header(block, offset)
            offset += BLOCK
            if offset + member.size > size:
                raise TidalkinError(cut_short)
            if member.kind not in PAX_HEADERS:
                parts = MEMBER_NAME.fullmatch(member.name)
                if parts is None or member.kind not in tarfile.REGULAR_TYPES:
                    raise TidalkinError(
                        f"{self.path} holds {member.name!r}, which is not a cutout: fetch the chunk again"
                    )
                found[int(parts[1]), parts[2]] = (offset, member.size)
            offset += member.size + padding(member.size)
        return found

    def _header(self, block: bytes, offset: int) -> MemberHeader:
        try:
            return read_header(block)
        except ValueError:
            raise TidalkinError(
                f"{self.path} is cut short or not a tar of cutouts (no header at byte {offset}): "
                "delete it to fetch the chunk again"
            ) from None

    def __contains__(self, cutout: tuple[int, str]) -> bool:
        return cutout in self._members

    def __len__(self) -> int:
        return len(self._members)

    def read(self, object_id: int, band: str) -> bytes:
        """Read the FITS file of one object in one band.

        Raises
        ------
        TidalkinError
            If the chunk does not hold it (look in the ledger first) or cannot be read.
        """
        if (object_id, band) not in self._members:
            raise TidalkinError(f"{self.path} holds no {member_name(object_id, band)}: fetch the chunk again")
        offset, size = self._members[object_id, band]
        try:
            return os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise TidalkinError(f"{self.path} cannot be read ({error.strerror})") from error

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
