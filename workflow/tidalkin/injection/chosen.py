"""Add light or noise to the chosen galaxies of a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def add_to_chosen(images: Tensor, chosen: Tensor, compute: Callable[[Tensor | slice], Tensor]) -> None:
    """Add to the images of the chosen galaxies, in place.

    On the CPU only the chosen galaxies are computed. On a GPU all are computed, because a CUDA graph has fixed shapes.

    Parameters
    ----------
    images : (object, ...) tensor
        The images, which change.
    chosen : (object,) tensor of bool
        Whether something is added to each galaxy.
    compute : callable
        Computes what is added (row, ...) to some rows of the batch.

    Examples
    --------
    >>> images = torch.tensor([1.0, 2.0, 3.0])
    >>> add_to_chosen(images, torch.tensor([True, False, True]), lambda rows: torch.ones(3)[rows])
    >>> images
    tensor([2., 2., 4.])
    """
    if _has_fixed_shapes(chosen.device):
        one_per_row = chosen.view(-1, *[1] * (images.dim() - 1))
        images += torch.where(one_per_row, compute(slice(None)), 0.0)
        return
    rows = chosen.nonzero()[:, 0]
    if len(rows):  # MKL transforms no empty batch
        images.index_add_(0, rows, compute(rows))


def _has_fixed_shapes(device: torch.device) -> bool:
    return device.type != "cpu"
