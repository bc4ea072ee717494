"""The network, its heads and its loss."""

import math

import pytest
import torch
import torch.distributed as dist

import published
from tidalkin.model.resnet import BasicBlock
from tidalkin.model.simsiam import SMALLEST_VARIANCE, Encoder, SimSiam, loss, synchronise_batch_norm

from torchvision.models import resnet18, resnet50  # isort: skip  (after torchvision_blocks, which makes it importable)

TINY = published.network(width=8, projector_size=16, predictor_size=8)


@pytest.mark.parametrize(("architecture", "torchvisions"), [("resnet18", resnet18), ("resnet50", resnet50)])
def test_with_three_bands_and_width_64_the_encoder_computes_what_torchvisions_does(architecture, torchvisions):
    torch.manual_seed(1)
    theirs = torchvisions().eval()
    ours = Encoder(3, published.network(architecture=architecture)).eval()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert missing == []
    assert unexpected == ["fc.weight", "fc.bias"]
    theirs.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
@pytest.mark.parametrize("stem", ["standard", "small"])
def test_features_and_readout_have_the_announced_lengths(architecture, stem):
    encoder = Encoder(5, published.network(architecture=architecture, width=8, stem=stem)).eval()
    images = torch.randn(2, 5, 32, 32)
    assert encoder(images).shape == (2, encoder.feature_dim)
    assert encoder.readout(images).shape == (2, encoder.readout_dim)


def test_the_small_stem_keeps_twice_the_resolution():
    images = torch.randn(1, 5, 64, 64)
    sides = {
        stem: Encoder(5, published.network(width=8, stem=stem)).stages(images)[0].shape[-1]
        for stem in ("standard", "small")
    }
    assert sides == {"standard": 16, "small": 32}


def test_the_readout_is_mean_and_deviation_of_every_stage():
    encoder = Encoder(2, TINY).eval()
    images = torch.randn(3, 2, 32, 32)
    with torch.no_grad():
        expected = []
        for features in encoder.stages(images):
            expected += [features.mean((2, 3)), (features.var((2, 3), correction=0) + SMALLEST_VARIANCE).sqrt()]
        torch.testing.assert_close(encoder.readout(images), torch.cat(expected, 1), rtol=1e-4, atol=1e-5)


def test_residual_branches_start_as_zero_only_where_asked():
    for zero in (True, False):
        blocks = [block for block in Encoder(2, TINY, zero_residual=zero).modules() if isinstance(block, BasicBlock)]
        assert all((block.bn2.weight == 0).all() == zero for block in blocks)


def test_the_heads_are_the_published_ones():
    model = SimSiam(Encoder(2, TINY), TINY)
    layers = [type(layer).__name__ for layer in model.projector]
    assert layers == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    assert model.projector[-1].affine is False
    assert [layer.out_features for layer in model.predictor if isinstance(layer, torch.nn.Linear)] == [8, 16]


def test_the_loss_is_the_negative_mean_cosine():
    axis_x, axis_y = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    diagonal = torch.tensor([[1.0, 1.0]])
    assert loss(axis_x, axis_y, z_a=axis_y, z_b=axis_x).item() == pytest.approx(-1)
    assert loss(axis_x, axis_y, z_a=axis_x, z_b=axis_y).item() == pytest.approx(0)
    assert loss(axis_x, axis_x, z_a=axis_x, z_b=diagonal).item() == pytest.approx(-(1 + math.sqrt(0.5)) / 2)


def test_no_gradient_flows_through_the_targets():
    torch.manual_seed(1)
    model = SimSiam(Encoder(2, TINY), TINY)
    p_a, p_b, z_a, z_b, *_ = model(torch.randn(4, 2, 32, 32), torch.randn(4, 2, 32, 32))
    assert not z_a.requires_grad
    assert not z_b.requires_grad
    loss(p_a.detach(), p_b, z_a, z_b).backward()
    assert model.encoder.conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("stages", [3, 4])
@pytest.mark.parametrize("stem", ["standard", "small"])
def test_the_smallest_view_is_the_least_of_which_more_than_a_pixel_reaches_the_last_stage(stem, stages):
    settings = published.network(width=8, stem=stem, stages=stages)
    reaching = [
        Encoder(1, settings).eval().stages(torch.zeros(1, 1, side, side))[-2].shape[-1]
        for side in (settings.smallest_view - 1, settings.smallest_view)
    ]
    assert reaching == [1, 2]


# --- batch norm over processes --------------------------------------------------------------------------------------


@pytest.fixture
def group_of_one():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group_of_one")
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_synchronised_batch_norm_is_torchs_in_either_precision(precision):
    x = (3 + 2 * torch.randn(20, 4, 5, 5)).to(precision)
    alone = torch.nn.Sequential(torch.nn.BatchNorm2d(4))
    synchronised = synchronise_batch_norm(torch.nn.Sequential(torch.nn.BatchNorm2d(4)))
    assert not isinstance(synchronised[0], torch.nn.BatchNorm2d)
    theirs, ours = alone(x), synchronised(x)
    assert ours.dtype == precision
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(synchronised[0].running_mean, alone[0].running_mean)
    torch.testing.assert_close(synchronised[0].running_var, alone[0].running_var)
