"""Feed training images to the device, in random order.

Shards are shuffled, consecutive shards form windows of some thousand galaxies, and the galaxies of each window are
shuffled. Streaming therefore reads whole shards, once per epoch and one window ahead of the training. Images in memory
follow the same order, so that `compute.images_in` changes the speed and not the result.

The galaxies of a batch are sorted by row. The equal shares of several processes then come from different shards, so
that each process reads its part of a window and a few shards more instead of the whole window.
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
from distributed.system import memory_limit
from torch import Tensor

from tidalkin.errors import TidalkinError
from tidalkin.images.store import ImageStore
from tidalkin.seeds import generator

logger = logging.getLogger(__name__)

SHARE_OF_MEMORY = 0.5
"""Share of the free memory that images may fill. The rest is for the network's activations."""

READERS = 4
"""Shards read at once when streaming."""

Rows = npt.NDArray[np.int64]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Batch:
    """One process's share of a batch, on the device."""

    flux: Tensor
    """(object, band, y, x) float32, nJy, NaN where missing."""
    sky_sigma: Tensor
    """(object, band) float32, nJy."""
    psf_fwhm: Tensor
    """(object, band) float32, arcsec, NaN where unknown."""


def windows_of_epoch(rows: Rows, shard_size: int, window: int, seed: int, epoch: int) -> list[Rows]:
    """Permute ``rows`` for one epoch, in windows of whole shards.

    Parameters
    ----------
    rows : (object,) int64
        Sorted rows to train on.
    shard_size : int
        Rows per shard of the store.
    window : int
        Number of galaxies to shuffle together. A window holds between one and two times this number, give or take a
        shard, if there are enough galaxies.
    seed, epoch : int
        They determine the order.

    Examples
    --------
    >>> rows = np.arange(12)
    >>> [sorted(window.tolist()) for window in windows_of_epoch(rows, shard_size=3, window=6, seed=1, epoch=0)]
    [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
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
    """Return the number of free bytes on the device, within the limits of the job.

    Examples
    --------
    >>> free_memory(torch.device("cpu")) > 0
    True
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    used = psutil.Process().memory_info().rss
    return min(psutil.virtual_memory().available, max(memory_limit() - used, 0))


class TrainingImages:
    """The images of one training run.

    Parameters
    ----------
    store : ImageStore
        The image store.
    rows : (object,) int64
        Sorted rows to train on, from `ImageStore.good_rows`.
    batch_size : int
        Galaxies per batch.
    window : int
        Galaxies shuffled together.
    seed : int
        Determines the order.
    device : torch.device
        Device of the batches.
    images_in : {"auto", "memory", "stream"}
        Whether the images stay in the device's memory. With `auto` they do if they fill at most half of what is free.
    rank, processes : int
        Batches are split into ``processes`` equal parts; this object yields part number ``rank``, from 0.

    Raises
    ------
    TidalkinError
        If the images are to be held in memory and do not fit.
    """

    def __init__(
        self,
        store: ImageStore,
        rows: Rows,
        *,
        batch_size: int,
        window: int,
        seed: int,
        device: torch.device,
        images_in: Literal["auto", "memory", "stream"] = "auto",
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.store = store
        self.rows = rows
        self.batch_size = batch_size
        self.window = window
        self.seed = seed
        self.device = device
        self.share = slice(rank * batch_size // processes, (rank + 1) * batch_size // processes)
        self.shard_size = store.shard_size
        self.sky_sigma = self._on_device(np.asarray(store.sky_sigma)[rows])
        self.psf_fwhm = self._on_device(np.asarray(store.psf_fwhm)[rows])
        self.flux = self._load() if self._fit_in_memory(images_in, processes) else None

    def __len__(self) -> int:
        """Count the batches of an epoch.

        An incomplete batch at the end is left out, because its batch statistics would differ.
        """
        return len(self.rows) // self.batch_size

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield this process's share of each batch of an epoch.

        The order depends on seed and epoch alone.
        """
        windows = windows_of_epoch(self.rows, self.shard_size, self.window, self.seed, epoch)
        order = np.concatenate(windows)[: len(self) * self.batch_size].reshape(len(self), self.batch_size)
        wanted = np.sort(order, axis=1)[:, self.share]
        streamed = None if self.flux is not None else _one_ahead(self._streamed(wanted, windows))
        for chosen in torch.from_numpy(np.searchsorted(self.rows, wanted)).to(self.device):
            flux = next(streamed) if streamed else self.flux[chosen]  # type: ignore[index]
            yield Batch(flux, self.sky_sigma[chosen], self.psf_fwhm[chosen])

    def _fit_in_memory(self, images_in: str, processes: int) -> bool:
        """Decide whether the images stay in memory, and log the reason."""
        shape = (len(self.rows), *self.store.flux.shape[1:])
        needed = int(np.prod(shape)) * 4
        # On CUDA, each process has a device of its own.
        free = free_memory(self.device) // (1 if self.device.type == "cuda" else processes)
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
        """Read all images, in the order of the rows."""
        shape = (len(self.rows), *self.store.flux.shape[1:])
        flux = torch.empty(shape, device=self.device)
        shards = np.unique(self.rows // self.shard_size)
        start = 0
        for part in _one_ahead(self._shard_flux(shard, self.rows) for shard in shards):
            flux[start : start + len(part)] = self._on_device(part)
            start += len(part)
        return flux

    def _shard_flux(self, shard: int, rows: Rows) -> npt.NDArray[np.float32]:
        """Read the flux of those of the sorted rows that are in one shard."""
        span = self.store.rows_of(int(shard))
        first, last = np.searchsorted(rows, [span.start, span.stop])
        return self.store.read(int(shard)).flux[rows[first:last] - span.start]

    def _streamed(self, wanted: Rows, windows: list[Rows]) -> Iterator[Tensor]:
        """Yield the flux of the wanted rows (step, object) on the device, step by step.

        A step may take its galaxies from two windows.
        """
        window_of = np.empty(len(self.rows), np.int64)
        for number, window in enumerate(windows):
            window_of[np.searchsorted(self.rows, window)] = number
        window_of_wanted = window_of[np.searchsorted(self.rows, wanted)]
        places = [np.nonzero(window_of_wanted == number) for number in range(len(windows))]

        shape = (wanted.shape[1], *self.store.flux.shape[1:])
        batch, filled = np.empty(shape, np.float32), 0
        read = _one_ahead(self._read_rows(np.sort(wanted[place])) for place in places)
        for (steps, slots), (sorted_rows, flux) in zip(places, read, strict=True):
            for step in np.unique(steps):
                slot = slots[steps == step]
                batch[slot] = flux[np.searchsorted(sorted_rows, wanted[step, slot])]
                filled += len(slot)
                if filled == len(batch):
                    yield self._on_device(batch)
                    batch, filled = np.empty(shape, np.float32), 0

    def _read_rows(self, rows: Rows) -> tuple[Rows, npt.NDArray[np.float32]]:
        """Return the sorted rows and their flux, reading several shards at once."""
        flux = np.empty((len(rows), *self.store.flux.shape[1:]), np.float32)

        def read(shard: int) -> None:
            part = self._shard_flux(shard, rows)
            first = np.searchsorted(rows, self.store.rows_of(int(shard)).start)
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
    """Yield the same items, each prepared in a thread while the last is in use."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        end = object()
        upcoming = pool.submit(next, items, end)
        while (item := upcoming.result()) is not end:
            upcoming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
