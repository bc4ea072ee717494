"""SimSiam: the residual network, its two heads and its loss (Chen & He 2021, arXiv:2011.10566).

A search compares images by `Encoder.readout`, not by the projection that enters the loss. Faint debris is a texture at
intermediate scales, which the average over the last stage discards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from tidalkin import config
from tidalkin.model.heads import DebrisMap, InjectionHead
from tidalkin.model.resnet import BasicBlock, Bottleneck

SMALLEST_VARIANCE = 1e-4  # of a channel over an image

BLOCKS: dict[str, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    "resnet18": (BasicBlock, (2, 2, 2, 2)),
    "resnet50": (Bottleneck, (3, 4, 6, 3)),
}


class Encoder(nn.Module):
    """torchvision's ResNet without its classifier, for any number of channels and any width.

    With three channels, four stages, width 64 and the standard stem, the parameters have torchvision's names and
    shapes.

    Parameters
    ----------
    n_channels : int
        Channels of the network input, from `tidalkin.model.stretch.channel_count`.
    settings : config.Network
        Architecture, width and stem.
    zero_residual : bool
        Whether residual branches start at zero, as in the code of SimSiam's authors.
    """

    def __init__(self, n_channels: int, settings: config.Network, *, zero_residual: bool = True) -> None:
        super().__init__()
        block, depths = BLOCKS[settings.architecture]
        depths, width = depths[: settings.stages], settings.width
        if settings.stem == "standard":
            self.conv1 = nn.Conv2d(n_channels, width, kernel_size=7, stride=2, padding=3, bias=False)
            self.maxpool: nn.Module = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        else:
            self.conv1 = nn.Conv2d(n_channels, width, kernel_size=3, stride=2, padding=1, bias=False)
            self.maxpool = nn.Identity()
        self.bn1 = nn.BatchNorm2d(width)
        planes = [width * 2**stage for stage in range(len(depths))]
        inplanes = [width, *(block.expansion * n for n in planes[:-1])]
        for i in range(len(depths)):
            stage = _stage(block, inplanes[i], planes[i], depths[i], stride=1 if i == 0 else 2)
            self.add_module(f"layer{i + 1}", stage)
        self.stage_channels: tuple[int, ...] = tuple(block.expansion * n for n in planes)
        self.feature_dim: int = self.stage_channels[-1]
        self.readout_dim: int = 2 * sum(self.stage_channels)
        self._initialise(zero_residual)

    def _initialise(self, zero_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Bottleneck) and zero_residual:
                nn.init.zeros_(module.bn3.weight)
            elif isinstance(module, BasicBlock) and zero_residual:
                nn.init.zeros_(module.bn2.weight)

    def stages(self, x: Tensor) -> list[Tensor]:
        """Compute the feature maps (image, channel, y, x) of the residual stages."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        maps = []
        for number in range(1, len(self.stage_channels) + 1):
            x = self.get_submodule(f"layer{number}")(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Compute the projector's input, (image, feature_dim): the last stage averaged over space."""
        return self.stages(x)[-1].mean((2, 3))

    def readout(self, x: Tensor) -> Tensor:
        """Compute the spatial mean and deviation of all stages' channels, (image, readout_dim) float32."""
        return pooled(self.stages(x))


def pooled(maps: Sequence[Tensor]) -> Tensor:
    """Pool maps (image, channel, y, x) to means and standard deviations, (image, readout_dim) float32.

    Examples
    --------
    >>> maps = torch.tensor([[[[1.0, 3.0]], [[5.0, 5.0]]]])
    >>> pooled([maps]).round(decimals=2)  # two means, two standard deviations
    tensor([[2.0000, 5.0000, 1.0000, 0.0100]])
    """
    moments = []
    for features in maps:
        features = features.float()
        # Not torch.var_mean, which takes tens of times longer on channels-last tensors on the CPU.
        mean = features.mean((2, 3), keepdim=True)
        variance = (features - mean).square().mean((2, 3))
        # SMALLEST_VARIANCE bounds the gradient where a channel is constant.
        moments += [mean.flatten(1), (variance + SMALLEST_VARIANCE).sqrt()]
    return torch.cat(moments, dim=1)


def _stage(
    block: type[BasicBlock] | type[Bottleneck], inplanes: int, planes: int, depth: int, stride: int
) -> nn.Module:
    """Build a residual stage of ``depth`` blocks, the first of which strides and widens."""
    outplanes = planes * block.expansion
    shortcut = None
    if stride != 1 or inplanes != outplanes:
        shortcut = nn.Sequential(
            nn.Conv2d(inplanes, outplanes, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(outplanes)
        )
    first = block(inplanes, planes, stride, shortcut)
    return nn.Sequential(first, *(block(outplanes, planes) for _ in range(depth - 1)))


def projector(feature_dim: int, size: int) -> nn.Sequential:
    """Build the projector, three layers with batch norm, the last without affine (paper, section 3).

    Examples
    --------
    >>> projector(8, 16)(torch.zeros(4, 8)).shape
    torch.Size([4, 16])
    """
    return nn.Sequential(
        nn.Linear(feature_dim, size, bias=False),
        nn.BatchNorm1d(size),
        nn.ReLU(inplace=True),
        nn.Linear(size, size, bias=False),
        nn.BatchNorm1d(size),
        nn.ReLU(inplace=True),
        nn.Linear(size, size, bias=False),
        nn.BatchNorm1d(size, affine=False),
    )


def predictor(size: int, bottleneck: int) -> nn.Sequential:
    """Build the predictor, a bottleneck without batch norm on its output (paper, section 3).

    Examples
    --------
    >>> predictor(16, 4)(torch.zeros(4, 16)).shape
    torch.Size([4, 16])
    """
    return nn.Sequential(
        nn.Linear(size, bottleneck, bias=False),
        nn.BatchNorm1d(bottleneck),
        nn.ReLU(inplace=True),
        nn.Linear(bottleneck, size),
    )


class Outputs(NamedTuple):
    """Outputs for two views of the same galaxies."""

    p_a: Tensor
    """(galaxy, projector_size) predictions for the first view."""
    p_b: Tensor
    z_a: Tensor
    """(galaxy, projector_size) projections of the first view, detached, because they are targets."""
    z_b: Tensor
    injected: Tensor | None
    """(2 galaxy,) logits of whether light was injected, first view first; None without heads."""
    debris_map: Tensor | None
    """(2 galaxy, 1, cell, cell) logits of where light was injected; None without heads."""


class SimSiam(nn.Module):
    """The trained model: encoder, projector, predictor, and the heads for injected light.

    Parameters
    ----------
    encoder : Encoder
        The network.
    settings : config.Network
        Sizes of projector and predictor.
    injection : bool
        Whether there are heads for injected light.
    """

    def __init__(self, encoder: Encoder, settings: config.Network, *, injection: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector(encoder.feature_dim, settings.projector_size)
        self.predictor = predictor(settings.projector_size, settings.predictor_size)
        self.injection_head = InjectionHead(encoder.readout_dim) if injection else None
        self.debris_map = DebrisMap(encoder.stage_channels) if injection else None

    def forward(self, view_a: Tensor, view_b: Tensor) -> Outputs:
        """Compute predictions, projections and the heads' logits for two views (galaxy, channel, y, x).

        The views go through the network one after the other, so that each has its own batch statistics. The
        projections are detached (paper, section 3, stop-gradient).
        """
        maps_a, maps_b = self.encoder.stages(view_a), self.encoder.stages(view_b)
        z_a, z_b = self.projector(maps_a[-1].mean((2, 3))), self.projector(maps_b[-1].mean((2, 3)))
        injected = where = None
        if self.injection_head is not None and self.debris_map is not None:
            injected = self.injection_head(torch.cat([pooled(maps_a), pooled(maps_b)]))
            where = torch.cat([self.debris_map(maps_a), self.debris_map(maps_b)])
        return Outputs(self.predictor(z_a), self.predictor(z_b), z_a.detach(), z_b.detach(), injected, where)


def loss(p_a: Tensor, p_b: Tensor, z_a: Tensor, z_b: Tensor) -> Tensor:
    """Compute the symmetrised negative cosine similarity, -1..1 (paper, equation 2).

    Examples
    --------
    >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> loss(z, z, z, z), loss(z, z, -z, -z)
    (tensor(-1.), tensor(1.))
    """
    similarity_a = F.cosine_similarity(p_a.float(), z_b.detach().float(), dim=1)
    similarity_b = F.cosine_similarity(p_b.float(), z_a.detach().float(), dim=1)
    return -(similarity_a.mean() + similarity_b.mean()) / 2


# --- batch norm over several CPU processes --------------------------------------------------------------------------


class _SumOverProcesses(torch.autograd.Function):
    """Sum of a tensor over all processes, whose gradient is the sum of the gradients."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class _SyncedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm with the statistics of the whole group's batch, on any device.

    torch's SyncBatchNorm refuses CPU tensors. Every process must hold the same number of images.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (image, channel, ...)."""
        if not self.training:
            return super().forward(input)
        others = [axis for axis in range(input.dim()) if axis != 1]
        values = input.float()  # as in torch, the statistics of bfloat16 maps are computed in float32
        local_mean = values.mean(others, keepdim=True)
        local_variance = (values - local_mean).square().mean(others)
        local_mean = local_mean.flatten()
        moments = _SumOverProcesses.apply(torch.cat([local_mean, local_variance + local_mean**2]))
        mean, square = (moments / dist.get_world_size()).chunk(2)
        variance = square - mean**2
        self._follow(mean.detach(), variance.detach(), count=input.numel() // input.shape[1] * dist.get_world_size())
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        offset = -mean * scale + (self.bias if self.affine else 0)
        shape = [-1 if axis == 1 else 1 for axis in range(input.dim())]
        return (values * scale.view(shape) + offset.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Update the running statistics as torch does, with the unbiased variance."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)


def synchronise_batch_norm(model: nn.Module) -> nn.Module:
    """Make every batch norm use the statistics of all processes, with unchanged parameter names.

    Examples
    --------
    >>> layers = synchronise_batch_norm(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)))
    >>> type(layers[1]).__name__, [name for name, _ in layers.named_parameters()]
    ('_SyncedBatchNorm', ['0.weight', '0.bias', '1.weight', '1.bias'])
    """
    if next(model.parameters()).device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                assert child.momentum is not None
                synced = _SyncedBatchNorm(child.num_features, child.eps, child.momentum, child.affine)
                synced.load_state_dict(child.state_dict())
                setattr(module, name, synced)
    return model
