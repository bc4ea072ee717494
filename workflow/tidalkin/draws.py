"""Random numbers that do not depend on the number of processes.

Every process draws the numbers of the whole batch from the same generator and keeps its own part. A batch is therefore
the same whether one process or several work on it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

NOISE_BLOCK = 32
"""Images in a block. On the CPU, each block of noise has its own seed and is drawn in one thread, if it is needed."""


@functools.lru_cache
def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the same constant tensor at every call, (value,).

    A new one would be copied from the host, for which a GPU waits. A CUDA graph cannot record that.

    Examples
    --------
    >>> constant((0.5, 1.5), torch.device("cpu"))
    tensor([0.5000, 1.5000])
    """
    with torch.inference_mode(False):  # a tensor made in inference mode could not enter a training later
        return torch.tensor(values, device=device, dtype=dtype)


class Draws:
    """Draw random tensors for one process's part of a batch.

    Parameters
    ----------
    generator : torch.Generator
        The only source of randomness; in the same state in all processes.
    rank, processes : int
        The batch is split into ``processes`` equal parts; this object draws part number ``rank``, from 0.

    Examples
    --------
    >>> whole = Draws(torch.Generator().manual_seed(1)).uniform((0.0, 1.0), 4)
    >>> second_half = Draws(torch.Generator().manual_seed(1), rank=1, processes=2).uniform((0.0, 1.0), 2)
    >>> bool((whole[2:] == second_half).all())
    True
    """

    def __init__(self, generator: torch.Generator, *, rank: int = 0, processes: int = 1) -> None:
        self.generator = generator
        self.device = generator.device
        self.rank = rank
        self.processes = processes

    def uniform(self, bounds: tuple[float, float], *shape: int) -> Tensor:
        """Draw uniform numbers between two bounds, (object, ...)."""
        low, high = bounds
        return low + (high - low) * self._own_part(self._rand, *shape)

    def normal(self, *shape: int) -> Tensor:
        """Draw normal numbers of unit variance, (object, ...)."""
        return self._own_part(self._randn, *shape)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Draw whole numbers from ``low`` to ``high``, both included, (object, ...)."""
        return self._own_part(
            lambda whole: torch.randint(low, high + 1, whole, generator=self.generator, device=self.device), *shape
        )

    def noise(self, n_objects: int, *shape: int) -> Tensor:
        """Draw white noise of unit variance, (object, ...), in several threads on the CPU."""
        if self.device.type != "cpu":
            return self._own_part(self._randn, n_objects, *shape)
        first, stop = self.rank * n_objects, (self.rank + 1) * n_objects
        seeds = torch.randint(2**62, (math.ceil(n_objects * self.processes / NOISE_BLOCK),), generator=self.generator)
        blocks = range(first // NOISE_BLOCK, math.ceil(stop / NOISE_BLOCK))
        noise = torch.empty(len(blocks) * NOISE_BLOCK, *shape)

        def fill(block: int) -> None:
            part = noise[(block - blocks.start) * NOISE_BLOCK :][:NOISE_BLOCK]
            part.normal_(generator=torch.Generator().manual_seed(int(seeds[block])))

        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # torch draws in one thread only
            list(pool.map(fill, blocks))
        return noise[first - blocks.start * NOISE_BLOCK :][:n_objects]

    def _own_part(self, draw: Callable[[Sequence[int]], Tensor], n_objects: int, *shape: int) -> Tensor:
        drawn = draw((n_objects * self.processes, *shape))
        return drawn[self.rank * n_objects : (self.rank + 1) * n_objects]

    def _rand(self, shape: Sequence[int]) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.device)

    def _randn(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)
