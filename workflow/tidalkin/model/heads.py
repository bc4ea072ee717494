"""Heads that learn from injected light whether it is there, and where.

SimSiam makes the encoder ignore all differences between two views of a galaxy. These heads make it keep the
differences that injected light makes. The literature calls this equivariant self-supervised learning (E-SimSiam,
Dangovski et al. 2022, arXiv:2111.00899) with synthetic anomalies (CutPaste, Li et al. 2021, arXiv:2104.04015; NSA,
Schlüter et al. 2022, arXiv:2109.15222).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tidalkin.constants import DEBRIS_SHARE, inner_cells

MAP_STAGES = 3
"""Number of residual stages whose maps the debris map reads, from the first on."""

MAP_CHANNELS = 64

MAP_FEATURES = 3
"""Number of features that `map_features` computes from a map."""


class InjectionHead(nn.Module):
    """Linear head that predicts from the readout whether light was injected.

    Parameters
    ----------
    readout_dim : int
        Length of the encoder's readout.
    """

    def __init__(self, readout_dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(readout_dim, affine=False)
        self.linear = nn.Linear(readout_dim, 1)

    def forward(self, readout: Tensor) -> Tensor:
        """Compute the logit of each image, (image,), from readouts (image, readout_dim)."""
        logit: Tensor = self.linear(self.norm(readout))[:, 0]
        return logit


class DebrisMap(nn.Module):
    """Dense head that predicts where light was injected.

    It reads the maps of the first three residual stages. They are normalised, resampled to the grid of the second
    stage, and mixed by two 1 x 1 convolutions.

    Parameters
    ----------
    channels : sequence of int
        Channels of the encoder's residual stages, three or more.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        channels = channels[:MAP_STAGES]
        self.norms = nn.ModuleList([nn.BatchNorm2d(count, affine=False) for count in channels])
        self.mix = nn.Conv2d(sum(channels), MAP_CHANNELS, 1)
        self.norm = nn.BatchNorm2d(MAP_CHANNELS)
        self.out = nn.Conv2d(MAP_CHANNELS, 1, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Compute logits (image, 1, cell, cell) from the stages' maps (image, channel, y, x)."""
        first, second, third = (norm(part.float()) for norm, part in zip(self.norms, maps[:MAP_STAGES], strict=True))
        cells = second.shape[-1]
        joined = torch.cat(
            [
                F.adaptive_avg_pool2d(first, cells),
                second,
                F.interpolate(third, size=cells, mode="bilinear", align_corners=False),
            ],
            dim=1,
        )
        logits: Tensor = self.out(F.relu(self.norm(self.mix(joined))))
        return logits


def map_target(light: Tensor, cells: int) -> Tensor:
    """Compute the target of the debris map from the injected light.

    It is near 1 where the light stands out of the noise, and 0 where there is none.

    Parameters
    ----------
    light : (image, 1, y, x) tensor
        Signal to noise of the injected light per pixel.
    cells : int
        Side of the map.

    Returns
    -------
    (image, 1, cell, cell) tensor
        ``t / (1 + t)``, with ``t`` the signal to noise of the cell.

    Examples
    --------
    >>> map_target(torch.full((1, 1, 8, 8), 0.25), 2)[0, 0]  # 16 pixels of 0.25 sigma make 1 sigma per cell
    tensor([[0.5000, 0.5000],
            [0.5000, 0.5000]])
    """
    signal_to_noise = F.adaptive_avg_pool2d(light, cells) * (light.shape[-1] / cells)
    return signal_to_noise / (1.0 + signal_to_noise)


def brightest_mean(debris_map: Tensor) -> Tensor:
    """Compute the debris score (image,) of maps (image, 1, cell, cell).

    The score is the mean of the brightest inner cells. A feature covers a small part of an image: the mean over all
    cells would drown it, and a single cell is noisy. Cells on the border do not count, because neighbours that are cut
    off there look like faint light.

    Examples
    --------
    >>> maps = torch.zeros(2, 1, 12, 12)
    >>> maps[0, 0, 0, :8] = 2.0  # on the border
    >>> maps[1, 0, 1, 1:9] = 2.0  # 8 % of the inner cells
    >>> brightest_mean(maps)
    tensor([0., 2.])
    """
    cells = _inner_cells(debris_map)
    count = max(1, round(DEBRIS_SHARE * cells.shape[1]))
    return cells.topk(count, dim=1).values.mean(dim=1)


def map_features(debris_map: Tensor) -> Tensor:
    """Compute mean and maximum of the inner cells, and the debris score, (image, 3).

    Examples
    --------
    >>> debris_map = torch.zeros(1, 1, 12, 12)
    >>> debris_map[0, 0, 1, 1] = 5.0
    >>> map_features(debris_map)
    tensor([[0.0500, 5.0000, 0.6250]])
    """
    cells = _inner_cells(debris_map)
    return torch.stack([cells.mean(dim=1), cells.amax(dim=1), brightest_mean(debris_map)], dim=1)


def _inner_cells(debris_map: Tensor) -> Tensor:
    """Return the cells of maps (image, 1, cell, cell) off the border, (image, cell)."""
    inner = inner_cells(debris_map.shape[-1])
    return debris_map[..., inner, inner].flatten(1)


def injection_loss(logit: Tensor, injected: Tensor) -> Tensor:
    """Compute the cross-entropy of `InjectionHead`'s logits (image,) with the truth (image,).

    Examples
    --------
    >>> injection_loss(torch.tensor([4.0, -4.0]), torch.tensor([True, False]))
    tensor(0.0181)
    >>> injection_loss(torch.tensor([4.0, -4.0]), torch.tensor([False, True]))
    tensor(4.0181)
    """
    return F.binary_cross_entropy_with_logits(logit.float(), injected.float())


def map_loss(logits: Tensor, light: Tensor) -> Tensor:
    """Compute the cross-entropy of `DebrisMap`'s logits with the `map_target` of the light.

    Examples
    --------
    >>> light = torch.zeros(1, 1, 8, 8)
    >>> map_loss(torch.full((1, 1, 2, 2), -4.0), light), map_loss(torch.full((1, 1, 2, 2), 4.0), light)
    (tensor(0.0181), tensor(4.0181))
    """
    return F.binary_cross_entropy_with_logits(logits.float(), map_target(light, logits.shape[-1]))
