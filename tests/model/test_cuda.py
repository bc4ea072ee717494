"""Training and embedding on a GPU, where one is visible."""

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.io import fits

from surveys.trained import BANDS, LOSSES, SECTIONS, small_store
from tidalkin import config
from tidalkin.draws import Draws
from tidalkin.embedding.features import encode
from tidalkin.injection.injector import Injector
from tidalkin.injection.light import draw_light
from tidalkin.model.augment import Views
from tidalkin.model.checkpoint import load_encoder
from tidalkin.model.recorded import Recorded
from tidalkin.model.simsiam import Encoder, SimSiam
from tidalkin.model.train import backpropagate, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")

NUISANCES = config.Nuisances(companions=0.5, gradients=0.5, over_subtraction=0.5, correlated_noise=0.5)


def trained(folder, name, injection=None, augment=None, epochs=12, **compute):
    """Train for some epochs; return the encoder and its history."""
    sections = SECTIONS | {
        "training": SECTIONS["training"].model_copy(update={"epochs": epochs}),
        "injection": injection or SECTIONS["injection"],
        "augment": augment or config.Augment(crop=18),
        "compute": config.Compute(**compute),
    }
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
    assert np.isfinite(on_gpu[LOSSES]).all(axis=None)
    # The draws differ from device to device, so that only the means agree.
    np.testing.assert_allclose(on_gpu[LOSSES].tail(6).mean(), on_cpu[LOSSES].tail(6).mean(), atol=0.15)


@pytest.mark.parametrize("case", ["nuisances", "size", "stamps", "none", "turned"])
def test_a_gpu_records_whatever_is_painted(folder, case):
    injection = SECTIONS["injection"]
    if case == "stamps":
        stamps = folder / "stamps"
        stamps.mkdir()
        fits.PrimaryHDU(np.eye(9)).writeto(stamps / "stamp.fits")
        injection = config.Injection(stamps=config.StampFolder(folder=str(stamps), pixel_scale_arcsec=0.168))
    elif case != "turned":
        update = {
            "nuisances": {"nuisances": NUISANCES},
            "size": {"scale_with_size": True},
            "none": {"head_weight": 0, "map_weight": 0},
        }[case]
        injection = injection.model_copy(update=update)
    augment = SECTIONS["augment"].model_copy(update={"blur_arcsec": (0.0, 0.5), "extinction_ebv": (-0.1, 0.1)})
    _, history = trained(folder, case, injection, augment if case == "turned" else None, epochs=2, device="cuda")
    assert np.isfinite(history[LOSSES]).all(axis=None)


def test_a_recorded_step_gives_the_gradients_of_the_step_itself():
    device, bands = torch.device("cuda"), ["g", "r", "i"]
    sigma = np.ones(3, np.float32)
    generators = [torch.Generator(device) for _ in range(2)]
    views = Views(config.Augment(crop=48), config.Stretch(), torch.from_numpy(sigma), bands, generators[0])
    inject = Injector(config.Injection(), bands, sigma, generators[1])
    network = config.Network(width=8, projector_size=16, predictor_size=8)
    torch.manual_seed(1)
    model = SimSiam(Encoder(4, network), network, injection=True).to(device)
    images, ones = 5 * torch.randn(3, 16, 3, 48, 48, device=device), torch.ones(16, 3, device=device)

    def step(flux):
        view_a, view_b = views.pair(flux, ones, ones, inject(flux, ones))
        return backpropagate(model, view_a, view_b, config.Injection(), torch.float32)

    def run(function):
        for parameter in model.parameters():
            parameter.grad = None
        seen = []
        for number, flux in enumerate(images):
            for generator in generators:
                generator.manual_seed(number)
            losses = function(flux).clone()
            seen.append([losses, *(parameter.grad.clone() for parameter in model.parameters())])
        return seen, [buffer.clone() for buffer in model.buffers()]

    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = run(step)
    model.load_state_dict(before)
    torch.testing.assert_close(run(Recorded(step, model, generators)), expected, rtol=1e-3, atol=1e-4)


def test_streamed_images_train_as_those_in_the_memory_of_the_gpu(folder):
    histories = [
        trained(folder, place, device="cuda", precision="float32", images_in=place, epochs=3)[1][LOSSES]
        for place in ("memory", "stream")
    ]
    # A GPU adds gradients in any order, so that two trainings drift apart.
    np.testing.assert_allclose(*histories, atol=0.02)


def test_a_gpu_embeds_as_a_cpu_does(folder):
    loaded, _ = trained(folder, "embeds", device="cuda", precision="float32", epochs=2)
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
    assert not light.shape[..., :5].any(), "no light where there are no pixels"
    assert light.flux()[light.injected].amax(dim=(1, 2, 3)).min() > 0
