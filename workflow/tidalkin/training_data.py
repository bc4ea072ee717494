"""Training images: which, in which order, and how they reach the device.

The order is the same wherever the images are, so that `compute.images_in` changes the speed and not the result: the
shards are shuffled, consecutive shards form windows of some thousand galaxies, and the galaxies of a window are
shuffled among themselves. Streaming therefore reads whole shards, once per epoch, one window ahead of the training,
and never single rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import psutil
import torch
import zarr
from distributed.system import memory_limit
from torch import Tensor

from tidalkin.errors import TidalkinError
from tidalkin.images import array_of, read_shard, shard_rows
from tidalkin.randomness import generator

logger = logging.getLogger(__name__)

SHARE_OF_MEMORY = 0.5
"""Share of the free memory that images may fill; the rest is for the network's activations."""

READERS = 4
"""Shards read at once when streaming."""

Rows = npt.NDArray[np.int64]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Batch:
    """Images of some galaxies, on the device."""

    flux: Tensor
    """(object, band, y, x) float32, nJy, NaN where missing."""
    sky_sigma: Tensor
    """(object, band) float32, nJy."""
    psf_fwhm: Tensor
    """(object, band) float32, arcsec, NaN where unknown."""


def good_rows(store: zarr.Group, minimum_good_fraction: float) -> Rows:
    """Rows of the galaxies that have enough good pixels in every band."""
    worst = np.asarray(array_of(store, "good_fraction")).min(axis=1)
    return np.flatnonzero(worst >= minimum_good_fraction)


def windows_of_epoch(rows: Rows, shard_size: int, window: int, seed: int, epoch: int) -> list[Rows]:
    """The order of one epoch: a permutation of ``rows``, in windows of whole shards.

    Parameters
    ----------
    rows : (object,) int64
        Sorted rows to train on.
    shard_size : int
        Rows per shard of the store.
    window : int
        About how many galaxies are shuffled together: at least so many, if there are, and under twice as many, give or
        take a shard.
    seed, epoch : int
        What the order depends on.
    """
    random = generator(seed, "order", epoch)
    shards = rows // shard_size
    by_shard = [
        rows[np.searchsorted(shards, shard) : np.searchsorted(shards, shard, side="right")]
        for shard in random.permutation(np.unique(shards))
    ]
    n_windows = max(1, len(rows) // window)
    sizes = np.array([len(part) for part in by_shard])
    window_of_shard = ((np.cumsum(sizes) - sizes / 2) * n_windows / len(rows)).astype(int)
    windows = [
        np.concatenate([by_shard[i] for i in np.flatnonzero(window_of_shard == number)])
        for number in np.unique(window_of_shard)
    ]
    return [random.permutation(part) for part in windows]


def free_memory(device: torch.device) -> int:
    """Bytes that are free on the device, within the limits of the job."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    used = psutil.Process().memory_info().rss
    return min(psutil.virtual_memory().available, max(memory_limit() - used, 0))


class TrainingImages:
    """The images of one training run.

    Parameters
    ----------
    store : zarr.Group
        The image store.
    rows : (object,) int64
        Sorted rows to train on: `good_rows`.
    batch_size : int
        Galaxies per batch.
    window : int
        Galaxies shuffled together.
    seed : int
        What the order depends on.
    device : torch.device
        Where the batches are wanted.
    images_in : {"auto", "memory", "stream"}
        Whether the images stay in the device's memory; `auto`: if they fill at most half of it.
    processes : int
        How many processes share the memory.

    Raises
    ------
    TidalkinError
        If the images are to be held in memory and do not fit.
    """

    def __init__(
        self,
        store: zarr.Group,
        rows: Rows,
        *,
        batch_size: int,
        window: int,
        seed: int,
        device: torch.device,
        images_in: Literal["auto", "memory", "stream"] = "auto",
        processes: int = 1,
    ) -> None:
        self.store = store
        self.rows = rows
        self.batch_size = batch_size
        self.window = window
        self.seed = seed
        self.device = device
        self.shard_size = shard_rows(store, 0).stop
        self.sky_sigma = self._on_device(np.asarray(array_of(store, "sky_sigma"))[rows])
        self.psf_fwhm = self._on_device(np.asarray(array_of(store, "psf_fwhm"))[rows])
        self.flux = self._load() if self._fit_in_memory(images_in, processes) else None

    def __len__(self) -> int:
        """Batches per epoch: an incomplete one at the end is left out, since batch norm would see it as different."""
        return len(self.rows) // self.batch_size

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, in an order that depends on seed and epoch alone."""
        windows = windows_of_epoch(self.rows, self.shard_size, self.window, self.seed, epoch)
        order = np.searchsorted(self.rows, np.concatenate(windows))
        batches = order[: len(self) * self.batch_size].reshape(len(self), self.batch_size)
        streamed = None if self.flux is not None else _one_ahead(self._streamed(windows))
        for chosen in torch.from_numpy(batches).to(self.device):
            flux = next(streamed) if streamed else self.flux[chosen]  # type: ignore[index]
            yield Batch(flux, self.sky_sigma[chosen], self.psf_fwhm[chosen])

    def _fit_in_memory(self, images_in: str, processes: int) -> bool:
        """Decide, and state the sum."""
        shape = (len(self.rows), *array_of(self.store, "flux").shape[1:])
        needed = int(np.prod(shape)) * 4
        free = free_memory(self.device) // processes
        fit = needed <= SHARE_OF_MEMORY * free
        keep = images_in == "memory" or (images_in == "auto" and fit)
        logger.info(
            "training images: %s float32 = %.2f GB; %.2f GB are free on %s for each process: %s",
            " x ".join(map(str, shape)),
            needed / 1e9,
            free / 1e9,
            self.device,
            "kept in memory" if keep else "streamed by shard",
        )
        if keep and needed > free:
            raise TidalkinError(
                f"compute.images_in is 'memory', but the training images need {needed / 1e9:.1f} GB and "
                f"{free / 1e9:.1f} GB are free on {self.device}: use `auto` or `stream`"
            )
        return keep

    def _load(self) -> Tensor:
        """All images, in the order of the rows."""
        shape = (len(self.rows), *array_of(self.store, "flux").shape[1:])
        flux = torch.empty(shape, device=self.device)
        shards = np.unique(self.rows // self.shard_size)
        start = 0
        for part in _one_ahead(self._shard_flux(shard, self.rows) for shard in shards):
            flux[start : start + len(part)] = self._on_device(part)
            start += len(part)
        return flux

    def _shard_flux(self, shard: int, rows: Rows) -> npt.NDArray[np.float32]:
        """Flux of those of the sorted rows that are in one shard."""
        span = shard_rows(self.store, int(shard))
        first, last = np.searchsorted(rows, [span.start, span.stop])
        return read_shard(self.store, int(shard)).flux[rows[first:last] - span.start]

    def _streamed(self, windows: list[Rows]) -> Iterator[Tensor]:
        """Flux of one batch after the other, on the device; batches run on across the ends of windows."""
        frame = array_of(self.store, "flux").shape[1:]
        batch, filled = np.empty((self.batch_size, *frame), np.float32), 0
        for rows, (sorted_rows, flux) in zip(windows, _one_ahead(map(self._read_window, windows)), strict=True):
            position = np.searchsorted(sorted_rows, rows)
            start = 0
            while start < len(rows):
                stop = min(start + self.batch_size - filled, len(rows))
                np.take(flux, position[start:stop], axis=0, out=batch[filled : filled + stop - start])
                filled, start = filled + stop - start, stop
                if filled == self.batch_size:
                    yield self._on_device(batch)
                    batch, filled = np.empty_like(batch), 0

    def _read_window(self, rows: Rows) -> tuple[Rows, npt.NDArray[np.float32]]:
        """The rows of a window, sorted, and their flux: whole shards, several at once."""
        rows = np.sort(rows)
        flux = np.empty((len(rows), *array_of(self.store, "flux").shape[1:]), np.float32)

        def read(shard: int) -> None:
            part = self._shard_flux(shard, rows)
            first = np.searchsorted(rows, shard_rows(self.store, int(shard)).start)
            flux[first : first + len(part)] = part

        with ThreadPoolExecutor(max_workers=READERS) as pool:
            list(pool.map(read, np.unique(rows // self.shard_size)))
        return rows, flux

    def _on_device(self, array: npt.NDArray[np.float32]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)


def _one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, each made in a thread while the one before is in use."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        end = object()
        upcoming = pool.submit(next, items, end)
        while (item := upcoming.result()) is not end:
            upcoming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
