"""Coadd patches of HSC on disk: downloaded once, resumed, checked and evicted.

All jobs of all runs on one machine can share the folder. A lock per patch lets one job download it while the others
wait. If the folder exceeds its limit, the patches that were used least recently are deleted.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from filelock import FileLock, Timeout

from tidalkin.atomic import disk_errors
from tidalkin.config import HscPatches, HscPatchesTransport
from tidalkin.cutouts.fits_fast import ASTROPY_FAULTS
from tidalkin.download.connections import connection_lock, host_folder
from tidalkin.download.credentials import Account, Refusals, find_account
from tidalkin.download.faults import Fault
from tidalkin.download.http import (
    client,
    quoted,
    raise_for_wrong_address,
    refused_credentials,
    retrying,
    status_fault,
    steady,
    transport_faults,
)
from tidalkin.errors import TidalkinError
from tidalkin.redaction import redact

logger = logging.getLogger(__name__)

ADDRESS_KEY = "cutouts.hsc_patches.url"
IMAGE, MASK, VARIANCE = 1, 2, 3
"""The HDUs of a patch."""
LARGEST_PATCH = 10**9
"""Most bytes of a patch. HSC's have 4,200 x 4,200 pixels of 12 bytes, which is 212 MB without compression."""


@dataclass(frozen=True, order=True)
class Patch:
    """One patch of a coadd in one filter."""

    rerun: str
    tract: int
    patch: int
    """As in the catalog: 100 times the column plus the row; both are below 10."""
    filter: str
    image_type: Literal["coadd", "coadd/bg"]

    @property
    def place(self) -> str:
        """The patch as the archive writes it, like ``4,5``."""
        return f"{self.patch // 100},{self.patch % 10}"

    @property
    def address(self) -> str:
        """Its place in the archive's file tree.

        ``deepCoadd`` keeps the sky on small scales, ``deepCoadd-results`` does not
        (https://hsc-release.mtk.nao.ac.jp/doc/index.php/processing__pdr3/).
        """
        if self.image_type == "coadd/bg":
            return f"{self.rerun}/deepCoadd/{self.filter}/{self.tract}/{self.place}.fits"
        calexp = f"calexp-{self.filter}-{self.tract}-{self.place}.fits"
        return f"{self.rerun}/deepCoadd-results/{self.filter}/{self.tract}/{self.place}/{calexp}"

    @property
    def name(self) -> str:
        """The name of its file in the cache."""
        kind = {"coadd": "calexp", "coadd/bg": "deepCoadd"}[self.image_type]
        return f"{kind}-{self.filter}-{self.tract}-{self.place}.fits"

    def __str__(self) -> str:
        return f"patch {self.place} of tract {self.tract} in {self.filter}"


class NoSuchPatch(Exception):
    """The archive has no such patch."""


class PatchCache:
    """Patches from the archive's file tree.

    Parameters
    ----------
    settings : HscPatches
        The configuration's section.
    folder : Path
        Folder of the patches.
    account : Account, optional
        Credentials; by default, they are looked for when the first patch is downloaded.
    lock_folder : Path, optional
        Where the connection limit is kept; by default, in the user's cache directory.
    """

    def __init__(
        self, settings: HscPatches, folder: Path, account: Account | None = None, lock_folder: Path | None = None
    ) -> None:
        self._settings = settings
        self._transport = settings.transport
        self._folder = folder
        self._account = account
        self._lock_folder = lock_folder
        self._address = httpx.URL(settings.url)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def opened(self, patch: Patch) -> Iterator[fits.HDUList]:
        """Open a patch's file; download it if it is missing.

        Raises
        ------
        NoSuchPatch
            If the archive has no such patch.
        Fault
            If it could not be downloaded whole.
        TidalkinError
            If the archive refuses the credentials or the address, or the disk is full.
        """
        path = self._folder / patch.rerun / patch.name
        with disk_errors(path):
            path.parent.mkdir(exist_ok=True)
            with FileLock(f"{path}.lock"):
                if not path.exists():
                    self._download(patch, path)
                    self._evict(path)
                os.utime(path)
                hdus = _open(path)
        # From here on, another job may delete the file. It stays readable while it is open.
        with hdus:
            yield hdus

    def discard(self, patch: Patch) -> None:
        """Delete a patch's file, so that it is downloaded again when it is next needed."""
        (self._folder / patch.rerun / patch.name).unlink(missing_ok=True)

    def _evict(self, newest: Path) -> None:
        """Delete the least recently used patches beyond the limit, except the newest.

        A patch in use stays, too.
        """
        bound = self._transport.cache_gigabytes * 1e9
        files = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self._folder.glob("*/*.fits"))
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= bound:
                return
            if path == newest:
                continue
            try:
                with FileLock(f"{path}.lock", blocking=False):
                    path.unlink(missing_ok=True)
            except Timeout:
                continue
            total -= size

    # --- download -----------------------------------------------------------------------------------------

    def _download(self, patch: Patch, path: Path) -> None:
        account = self._account = self._account or find_account(self._address.host)
        host = self._address.netloc.decode()
        refusals = Refusals(host_folder(host, self._lock_folder), account)
        asking = retrying(
            self._transport.attempts, self._transport.backoff_seconds, self._transport.backoff_maximum_seconds
        )
        began = time.monotonic()
        part = _Part(path)
        with (
            connection_lock(host, self._transport.connections, self._lock_folder),
            client(self._transport, account.auth()) as connection,
        ):
            asking(self._until_stuck, connection, patch, part, refusals)
        megabytes, seconds = part.size / 1e6, time.monotonic() - began
        part.become(path)
        logger.info("%s: %.1f MB in %.1f s, %.2f MB/s", patch, megabytes, seconds, megabytes / seconds)

    def _until_stuck(self, connection: httpx.Client, patch: Patch, part: _Part, refusals: Refusals) -> None:
        """Request the missing part as long as each try brings more."""
        while True:
            most = part.most
            try:
                self._ask(connection, patch, part, refusals)
                fault = _fault_of(part.path, patch)
                if fault:
                    part.discard()
                    raise Fault(f"{patch} came whole, but {fault}")
                return
            except Fault as fault_:
                if part.most == most:
                    raise
                logger.warning("%.1f MB of %s are here, then: %s", part.size / 1e6, patch, fault_)
                time.sleep(self._transport.backoff_seconds)

    def _ask(self, connection: httpx.Client, patch: Patch, part: _Part, refusals: Refusals) -> None:
        if part.is_whole:
            return
        refusals.stop_if_refused()
        with (
            transport_faults(self._address, ADDRESS_KEY),
            connection.stream("GET", f"{self._address}/{patch.address}", headers=part.headers()) as response,
        ):
            self._check(response, patch, part, refusals)
            part.take(response, self._transport)

    def _check(self, response: httpx.Response, patch: Patch, part: _Part, refusals: Refusals) -> None:
        status, host = response.status_code, self._address.host
        if status == 401:
            refusals.remember()
            raise refused_credentials(refusals.account, host)
        if status == 403:
            raise TidalkinError(
                f"{host} forbids access to {self._settings.rerun} (HTTP 403): check `cutouts.hsc_patches.rerun` and "
                f"the rights of the account found in {refusals.account.found_in}"
            )
        if status == 404:
            part.discard()
            raise NoSuchPatch(f"the archive has no {patch}")
        raise_for_wrong_address(response, self._address, ADDRESS_KEY)
        if status == 416:  # the archive's file is shorter than the part here, so that it is another one
            part.discard()
        if status not in (200, 206):
            raise status_fault(response)
        kind = response.headers.get("Content-Type", "")
        if kind.startswith("text/"):
            raise Fault(f"the server answered with {quoted(kind.partition(';')[0], 40)} instead of a FITS file")


def _open(path: Path) -> fits.HDUList:
    try:
        return fits.open(path, memmap=True)
    except ASTROPY_FAULTS as error:
        raise TidalkinError(f"{path} cannot be read ({quoted(str(error))}): delete it to download it again") from None


class _Part:
    """The part of a file on disk, with a note of the whole."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f"{path.name}.part")
        self._note = path.with_name(f"{path.name}.part.json")
        self._validator = ""
        self._total: int | None = None
        if self.path.exists() and self._note.exists():
            try:
                note = json.loads(self._note.read_text())
                self._validator, self._total = note["validator"], note["total"]
            except (ValueError, KeyError, TypeError):
                self.discard()
        self.most = self.size
        """Most bytes that were ever on disk."""

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def is_whole(self) -> bool:
        """Whether the file is complete."""
        return self._total is not None and self.size == self._total

    def headers(self) -> dict[str, str]:
        """Return headers that request the rest, if the file is unchanged.

        RFC 9110, section 13.1.5.
        """
        if not (self.size and self._validator):
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self._validator}

    def take(self, response: httpx.Response, transport: HscPatchesTransport) -> None:
        """Append the answer, or start again if the server does.

        Raises
        ------
        Fault
            If less comes than was announced, another piece than was requested, or the answer is too slow.
        """
        start, total = 0, response.headers.get("Content-Length")
        if response.status_code == 206:
            piece = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if piece is None or int(piece[1]) != self.size:
                self.discard()
                raise Fault("the server sent another piece than was requested")
            start, total = int(piece[1]), piece[2]
        if total is not None and not (total.isdecimal() and int(total) <= LARGEST_PATCH):
            self.discard()
            raise Fault(f"the server announces {quoted(total, 40)} bytes, more than a patch can have")
        self._total = int(total) if total is not None else None
        etag = response.headers.get("ETag", "")
        validator = response.headers.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag
        # A server that sends back the password must not get it into a file.
        self._validator = validator if redact(validator) == validator else ""
        self._note.write_text(json.dumps({"validator": self._validator, "total": self._total}))
        try:
            with self.path.open("r+b" if start else "wb") as file:
                file.seek(start)
                for content in steady(response, transport):
                    file.write(content)
                    if file.tell() > LARGEST_PATCH:
                        raise Fault(f"more than {LARGEST_PATCH} bytes came, which cannot be a patch")
        finally:
            self.most = max(self.most, self.size)
        if self._total is not None and self.size != self._total:
            raise Fault(f"{self.size} of {self._total} bytes came")

    def discard(self) -> None:
        """Delete the part."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self._validator, self._total = "", None

    def become(self, path: Path) -> None:
        """Rename the complete part to the file."""
        self.path.replace(path)
        self._note.unlink(missing_ok=True)


def _fault_of(path: Path, patch: Patch) -> str:
    """Return the fault of a patch's file; empty if there is none.

    Checksums that the archive wrote (FITS standard 4.0, section 4.4.2.7) are verified.
    """
    with path.open("rb") as file:
        if file.read(9) != b"SIMPLE  =":
            return "it is not FITS"
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with fits.open(path, memmap=True, checksum=True) as hdus:
                if len(hdus) <= VARIANCE or any(len(hdus[plane].shape) != 2 for plane in (IMAGE, MASK, VARIANCE)):
                    return "it does not have the planes of a coadd"
                if len({hdus[plane].shape for plane in (IMAGE, MASK, VARIANCE)}) > 1:
                    return "its planes differ in size"
                name = str(hdus[0].header.get("FILTER", patch.filter)).strip()
                if name.removesuffix("2") != patch.filter:
                    return f"it is of filter {quoted(name, 40)}"
                last = hdus[-1].fileinfo()
                end = last["datLoc"] + last["datSpan"]
    except ASTROPY_FAULTS as error:
        return f"it cannot be read ({quoted(str(error))})"
    if end > path.stat().st_size:
        return "it is cut short"
    doubts = [str(w.message).strip() for w in said if issubclass(w.category, AstropyUserWarning)]
    return next((text for text in doubts if re.search("checksum|datasum|truncated", text, re.IGNORECASE)), "")
