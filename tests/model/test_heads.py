"""The heads that learn from injected light."""

import pytest
import torch

import published
from tidalkin.model.heads import DebrisMap, InjectionHead, injection_loss, map_loss, map_target
from tidalkin.model.simsiam import Encoder, SimSiam

NETWORK = published.network(width=8, stem="small", projector_size=32, predictor_size=8)


@pytest.mark.parametrize(("side", "cells"), [(48, 12), (40, 10)])
def test_the_map_has_the_cells_of_the_second_stage(side, cells):
    encoder = Encoder(6, NETWORK)
    debris_map = DebrisMap(encoder.stage_channels)
    assert debris_map(encoder.stages(torch.randn(2, 6, side, side))).shape == (2, 1, cells, cells)


def test_the_target_is_half_where_light_equals_the_noise_of_a_cell():
    light = torch.zeros(1, 1, 48, 48)
    light[..., :4, :4] = 0.25  # 16 pixels of 0.25 sigma add up to 1 sigma
    target = map_target(light, 12)
    assert target[0, 0, 0, 0].item() == pytest.approx(0.5)
    assert target.sum().item() == pytest.approx(0.5)


def test_losses_are_small_for_right_answers_and_large_for_wrong_ones():
    truth = torch.tensor([True, False])
    right = torch.tensor([8.0, -8.0])
    assert injection_loss(right, truth) < 0.01 < 5 < injection_loss(-right, truth)
    light = torch.zeros(1, 1, 8, 8)
    light[..., :4, :4] = 1e4
    logits = torch.full((1, 1, 2, 2), -8.0)
    logits[..., 0, 0] = 8.0
    assert map_loss(logits, light) < 0.01 < 5 < map_loss(-logits, light)


def test_heads_exist_only_with_injection():
    encoder = Encoder(6, NETWORK)
    view = torch.randn(4, 6, 48, 48)
    plain = SimSiam(encoder, NETWORK)(view, view)
    assert plain.injected is None
    assert plain.debris_map is None
    heads = SimSiam(encoder, NETWORK, injection=True)(view, view)
    assert heads.injected.shape == (8,)
    assert heads.debris_map.shape == (8, 1, 12, 12)


def test_the_head_reads_the_readout():
    encoder = Encoder(6, NETWORK)
    assert InjectionHead(encoder.readout_dim)(encoder.readout(torch.randn(4, 6, 48, 48))).shape == (4,)
