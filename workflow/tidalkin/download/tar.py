"""The tar of a chunk: the FITS files of some hundred objects.

A tar member is named `<object_id>-<band>.fits`. Tar and ledger are byte-identical when the same deliveries are written
again: the members have no times and no owners. Members are in the order delivered. A source that has already packed
what it received hands its tar over without a copy.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import re
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tidalkin.atomic import atomic_path
from tidalkin.cutouts.base import Delivery, Packed
from tidalkin.download.ledger import LEDGER_SCHEMA, LedgerRow, checksum
from tidalkin.download.tar_members import BLOCK, TAR_END, MemberHeader, padding, read_header, write_header
from tidalkin.errors import TidalkinError

logger = logging.getLogger(__name__)

PAX_HEADERS = (tarfile.XHDTYPE, tarfile.XGLTYPE)  # times and owners, of a tar that was packed again
MEMBER_NAME = re.compile(r"(-?\d+)-([a-z]+)\.fits")


def member_name(object_id: int, band: str) -> str:
    """Name of a cutout in a chunk's tar."""
    return f"{object_id}-{band}.fits"


def received_folder(tar_path: str | Path) -> Path:
    """Where the job of a chunk keeps what it receives: beside the tars, out of sight."""
    tar_path = Path(tar_path)
    return tar_path.parent / ".received" / tar_path.stem


def write_chunk(
    deliveries: Iterable[Delivery],
    objects: pd.DataFrame,
    bands: Sequence[str],
    tar_path: str | Path,
    ledger_path: str | Path,
) -> pd.DataFrame:
    """Write the deliveries of one chunk as they come; one is in memory at a time.

    Parameters
    ----------
    deliveries : iterable of Delivery
        One for each object and band, in the order of ``objects`` and ``bands``.
    objects : pandas.DataFrame
        Catalog rows of the chunk.
    bands : sequence of str
        Bands, lower case.
    tar_path, ledger_path : str or Path
        Files to write. Neither is there before both are whole, unless from an earlier run.

    Returns
    -------
    pandas.DataFrame
        The ledger: `object_id`, `band`, `status` (`ok`, `absent`, `failed`), `reason`, `bytes`, `checksum`.

    Raises
    ------
    TidalkinError
        If the source leaves out, repeats or invents a delivery, or the disk is full.
    """
    expected = itertools.product(objects["object_id"].tolist(), bands)
    # The tar is renamed first: where there is a ledger, there is its tar.
    with atomic_path(ledger_path) as ledger_partial, atomic_path(tar_path) as tar_partial:
        with _disk_faults(tar_path):
            rows = _write_tar(_checked(deliveries, expected), tar_partial)
        with _disk_faults(ledger_path):
            columns = zip(*rows, strict=True) if rows else [()] * len(LEDGER_SCHEMA)
            ledger = pa.table(
                [pa.array(column, field.type) for column, field in zip(columns, LEDGER_SCHEMA, strict=True)],
                schema=LEDGER_SCHEMA,
            )
            pq.write_table(ledger, ledger_partial, compression="zstd")
    return ledger.to_pandas()


@contextmanager
def _disk_faults(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        mend = "free some space and run again" if full else "check that the folder can be written to"
        raise TidalkinError(f"{path} cannot be written ({error.strerror or error}): {mend}") from error


def _checked(deliveries: Iterable[Delivery], expected: Iterable[tuple[int, str]]) -> Iterator[Delivery]:
    """The deliveries, as long as they are the expected ones."""
    remaining = iter(deliveries)
    for object_id, band in expected:
        delivery = _next(remaining)
        if delivery is None or (delivery.object_id, delivery.band) != (object_id, band):
            what = "nothing" if delivery is None else f"object {delivery.object_id} in {delivery.band}"
            raise TidalkinError(
                f"the source of the cutouts delivered {what} where object {object_id} in {band} was due"
            )
        is_ok = delivery.status == "ok"
        if is_ok != (delivery.size > 0) or is_ok == bool(delivery.reason):
            raise TidalkinError(
                f"the source of the cutouts delivered object {object_id} in {band} as {delivery.status!r} "
                f"with {delivery.size} bytes and the reason {delivery.reason!r}"
            )
        yield delivery
    extra = _next(remaining)
    if extra is not None:
        raise TidalkinError(
            f"the source of the cutouts delivered object {extra.object_id} in {extra.band}, which was not asked for"
        )


def _next(deliveries: Iterator[Delivery]) -> Delivery | None:
    # A source's own fault must not be taken for one of the disk we write to.
    try:
        return next(deliveries, None)
    except OSError as error:
        raise TidalkinError(f"the source of the cutouts failed: {error}") from error


def _write_tar(deliveries: Iterable[Delivery], path: Path) -> list[LedgerRow]:
    rows: list[LedgerRow] = []
    packed: list[Packed] = []
    # One that a killed job left can be a link to the source's own tar, which is not to be emptied.
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        for delivery in deliveries:
            digest = delivery.checksum
            if delivery.packed:
                packed.append(delivery.packed)
            elif delivery.content:
                _write_member(file, member_name(delivery.object_id, delivery.band), delivery.content)
                digest = digest or checksum(delivery.content)
            rows.append((delivery.object_id, delivery.band, delivery.status, delivery.reason, delivery.size, digest))
        is_empty = not file.tell()
        file.write(TAR_END)
    if packed:
        if not is_empty:
            raise TidalkinError(f"the source of the cutouts packed some of those for {path} itself, but not all")
        _take_over(packed, path)
    return rows


def _write_member(file: IO[bytes], name: str, content: bytes) -> None:
    file.write(write_header(name, len(content)))
    file.write(content)
    file.write(bytes(padding(len(content))))


def _take_over(members: Sequence[Packed], path: Path) -> None:
    """Let ``path`` be the source's own tar of exactly these members: by a hard link, so that no byte is copied."""
    tar, end = members[0].tar, 0
    for member in sorted(members, key=attrgetter("offset")):
        if member.tar != tar or member.offset != end + BLOCK:
            raise TidalkinError(f"{member.tar} is no tar of a chunk: at byte {end} it has no cutout of the chunk")
        end = member.offset + member.size + padding(member.size)
    if tar.stat().st_size != end + len(TAR_END):
        raise TidalkinError(f"{tar} is no tar of a chunk: it does not end at byte {end}")
    path.unlink()
    try:
        path.hardlink_to(tar)
    except OSError as error:
        logger.warning("no hard link to %s (%s): made anew, this chunk is downloaded again", tar, error)
        shutil.move(tar, path)
    os.utime(path)


class ChunkTar:
    """The cutouts of one chunk, read in any order by any number of threads.

    Parameters
    ----------
    path : str or Path
        The tar. It is kept open until `close`; a process opens its own.

    Raises
    ------
    TidalkinError
        If it is missing, cut short or not a tar.

    Examples
    --------
    >>> with ChunkTar("results/demo/cutouts/00000.tar") as chunk:  # doctest: +SKIP
    ...     content = chunk.read(42, "g")
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
        """Offset and size in bytes of each cutout, from the headers alone."""
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
                    raise TidalkinError(f"{self.path} holds {member.name!r}, which is no cutout: fetch the chunk again")
                found[int(parts[1]), parts[2]] = (offset, member.size)
            offset += member.size + padding(member.size)
        return found

    def _header(self, block: bytes, offset: int) -> MemberHeader:
        try:
            return read_header(block)
        except ValueError:
            raise TidalkinError(
                f"{self.path} is cut short or no tar of cutouts (no header at byte {offset}): "
                "delete it to fetch it again"
            ) from None

    def __contains__(self, cutout: tuple[int, str]) -> bool:
        return cutout in self._members

    def __len__(self) -> int:
        return len(self._members)

    def read(self, object_id: int, band: str) -> bytes:
        """The FITS file of one object in one band.

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
