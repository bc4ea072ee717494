"""Training and embedding on a GPU, where one is visible."""

import numpy as np
import pandas as pd
import pytest
import torch

from surveys.trained import BANDS, SECTIONS, small_store
from tidalkin import config
from tidalkin.draws import Draws
from tidalkin.embedding.features import encode
from tidalkin.injection.light import draw_light
from tidalkin.model.checkpoint import load_encoder
from tidalkin.model.train import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

PAINTED = config.Injection(
    nuisances=config.Nuisances(companions=0.5, gradients=0.5, over_subtraction=0.5, correlated_noise=0.5)
)


def trained(folder, name, **compute):
    """Train on the GPU with everything that can be painted; return the encoder and its history."""
    training = SECTIONS["training"].model_copy(update={"epochs": 12})
    sections = SECTIONS | {"training": training, "injection": PAINTED, "compute": config.Compute(**compute)}
    train(folder / "images.zarr", folder / name, **sections)
    return load_encoder(folder / name / "encoder.pt"), pd.read_csv(folder / name / "history.csv")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cuda")
    small_store(path / "images.zarr")
    return path


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_learns_what_a_cpu_learns(folder, precision):
    _, on_gpu = trained(folder, f"gpu-{precision}", device="cuda", precision=precision)
    _, on_cpu = trained(folder, f"cpu-{precision}", device="cpu", precision="float32")
    losses = ["loss", "injection_loss", "map_loss"]
    assert np.isfinite(on_gpu[losses]).all(axis=None)
    # The draws differ from device to device, so that only the means agree.
    np.testing.assert_allclose(on_gpu[losses].tail(6).mean(), on_cpu[losses].tail(6).mean(), atol=0.15)


def test_streamed_images_train_as_those_in_the_memory_of_the_gpu(folder):
    kept, _ = trained(folder, "kept", device="cuda", precision="float32", images_in="memory")
    streamed, _ = trained(folder, "streamed", device="cuda", precision="float32", images_in="stream")
    for one, other in zip(kept.encoder.parameters(), streamed.encoder.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)


def test_a_gpu_embeds_as_a_cpu_does(folder):
    loaded, _ = trained(folder, "embeds", device="cuda", precision="float32")
    flux = np.random.default_rng(1).normal(size=(12, len(BANDS), 20, 20)).astype(np.float32)
    settings = config.Embedding(symmetries=8)
    on_cpu = encode(loaded, flux, settings, config.Compute(device="cpu", precision="float32"))
    for precision, tolerance in (("float32", 1e-3), ("bfloat16", 0.05)):
        on_gpu = encode(loaded, flux, settings, config.Compute(device="cuda", precision=precision))
        np.testing.assert_allclose(on_gpu.features, on_cpu.features, atol=tolerance * np.abs(on_cpu.features).max())
        np.testing.assert_allclose(on_gpu.debris_map, on_cpu.debris_map, atol=tolerance * 10)


def test_light_drawn_on_a_gpu_is_that_of_the_settings():
    draws = Draws(torch.Generator("cuda").manual_seed(1))
    images = torch.zeros(400, len(BANDS), 48, 48, device="cuda")
    images[:, :, :, :5] = torch.nan
    seeing = torch.full((400, len(BANDS)), 0.7, device="cuda")
    sigma = torch.ones(len(BANDS), device="cuda")
    light = draw_light(draws, config.Injection(), (24.0, 26.0), BANDS, images, seeing, sigma=sigma)
    assert light.injected.float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert not light.flux()[:, :, :, :5].any(), "no light where there are no pixels"
    assert light.flux()[light.injected].amax(dim=(1, 2, 3)).min() > 0
