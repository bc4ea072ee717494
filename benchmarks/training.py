"""Measure training and embedding against the network alone, and against lightly's SimSiam.

    python benchmarks/training.py
    python benchmarks/training.py --config config/config.yaml --batch-size 128
    benchmarks/gpu.sh

Four ways to train the same network run in one process and in turns (A B C A B C ...), so that other work on the
machine affects all of them alike. Medians of the turns are printed. On a busy machine, look at the ratios of processor
time of this process and its workers; they do not apply to a GPU. One turn is one epoch of simple simulated galaxies.

ceiling    Forward, backward and optimizer on one pair of views that stays on the device, without a data path.
tidalkin   The steps of `tidalkin.model.train` on views drawn from images in the device's memory, as in training.
streaming  The same, with the images read from the store during the turn, one window ahead.
lightly    lightly's SimSiam with its usual transforms and DataLoader. These take 8-bit pictures in three colours only.
           It gets such pictures, decoded in memory, and a network of three bands, which is an easier task than ours.
           Where lightly is absent or cannot be imported, a line of the table says so.

On a GPU, the ceiling and tidalkin are recorded as CUDA graphs, as in training. One more line shows tidalkin without.

With `--compile`, the network is also compiled by `torch.compile`.

Embedding is measured in the same way: `tidalkin.embedding.features` beside the network alone on images in memory.

On CUDA everything runs in bfloat16, as in the pipeline. Memory is the largest amount allocated on the device in a turn.
On the CPU it is the largest resident memory of this process, which holds the data of all variants, and of lightly's
workers, which live from its first turn on. It is the memory that the benchmark needs, not that of one variant.
"""

from __future__ import annotations

import importlib
import itertools
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import psutil
import torch
import typer
import yaml
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from tidalkin import config
from tidalkin.embedding.features import features
from tidalkin.errors import first_line
from tidalkin.images.store import ImageStore, Shard
from tidalkin.injection.injector import Injector
from tidalkin.model.augment import View, Views
from tidalkin.model.checkpoint import random_encoder
from tidalkin.model.data import TrainingImages
from tidalkin.model.device import choose_device, choose_precision
from tidalkin.model.recorded import Recorded
from tidalkin.model.simsiam import Encoder, SimSiam
from tidalkin.model.stretch import channel_count
from tidalkin.model.train import backpropagate

SKY_SIGMA = np.array([1.5, 2.5, 3.0, 6.0, 12.0], np.float32)  # nJy, about HSC-SSP Wide's
RGB = 3  # bands that lightly's transforms can take
CLOCK_TICK = 1 / os.sysconf("SC_CLK_TCK")  # processor time is counted in whole ticks


@dataclass
class Variant:
    """One way of doing the work, with its measurements."""

    name: str
    turn: Callable[[], int]
    """Do the work of one turn; return the number of views that went through the network."""
    rates: list[float] = field(default_factory=list)
    """Views per second of each turn."""
    cpu_rates: list[float] = field(default_factory=list)
    """Views per second of processor time, of this process and its workers."""
    peak_bytes: int = 0

    @property
    def rate(self) -> float:
        """Median views per second."""
        return statistics.median(self.rates)


# --- galaxies ----------------------------------------------------------------------------------------------------


def make_store(path: Path, settings: config.Settings, galaxies: int) -> None:
    """Write exponential discs of different size and brightness on noise; shards of 128."""
    images = config.Images(size=settings.images.size, shard_size=128, chunk_size=32)
    store = ImageStore.create(path, objects=galaxies, bands=settings.cutouts.bands, images=images)
    random = np.random.default_rng(1)
    sigma = SKY_SIGMA[: len(settings.cutouts.bands), None, None]
    y, x = np.mgrid[: images.size, : images.size].astype(np.float32) - (images.size - 1) / 2
    for shard, first in enumerate(range(0, galaxies, images.shard_size)):
        rows = min(images.shard_size, galaxies - first)
        scale = random.uniform(3, 12, (rows, 1, 1, 1)).astype(np.float32)
        light = np.exp(-np.hypot(x, y) / scale) * random.uniform(30, 1000, (rows, 1, 1, 1)).astype(np.float32)
        noise = random.standard_normal((rows, len(sigma), images.size, images.size), dtype=np.float32)
        ones = np.ones((rows, len(sigma)), np.float32)
        store.write(
            shard,
            Shard(light + sigma * noise, ones * sigma[:, 0, 0], 0.7 * ones, ones, np.arange(first, first + rows)),
        )


def network_channels(settings: config.Settings) -> int:
    """Count the channels that the network sees: the bands, and those that the stretch adds."""
    return channel_count(len(settings.cutouts.bands), settings.stretch)


# --- training ----------------------------------------------------------------------------------------------------


class Trainings:
    """Ways to train, on the same device with networks of the same kind."""

    def __init__(self, path: Path, settings: config.Settings, galaxies: int, workers: int) -> None:
        self.path, self.settings, self.galaxies, self.workers = path, settings, galaxies, workers
        self.device = choose_device(settings.compute.device)
        self.precision = choose_precision(settings.compute.precision, self.device)
        self.batch_size = settings.training.batch_size

    def ceiling(self) -> Variant:
        """Build the training of the network alone."""
        model, optimizer = self._model()
        side = self.settings.augment.crop // self.settings.stretch.bin
        pair = torch.rand(2, self.batch_size, network_channels(self.settings), side, side, device=self.device)
        light = torch.rand(2, self.batch_size, 1, side, side, device=self.device)

        def backward(pair: Tensor, light: Tensor) -> Tensor:
            view_a, view_b = (View(*drawn) for drawn in zip(pair, light, strict=True))
            return backpropagate(model, view_a, view_b, self.settings.injection, self.precision)

        step = Recorded(backward, model) if self.device.type == "cuda" else backward

        def turn() -> int:
            steps = self.galaxies // self.batch_size
            for _ in range(steps):
                step(pair, light)
                optimizer.step()
            return 2 * self.batch_size * steps

        return Variant("ceiling: the network alone", turn)

    def ours(
        self, images_in: Literal["memory", "stream"], *, recorded: bool = False, compiled: bool = False
    ) -> Variant:
        """Build the training of `tidalkin.model.train`, recorded as a CUDA graph or compiled by `torch.compile`."""
        model, optimizer = self._model()
        network = torch.compile(model) if compiled else model
        bands = self.settings.cutouts.bands
        images = TrainingImages(
            ImageStore.open(self.path),
            np.arange(self.galaxies),
            batch_size=self.batch_size,
            window=self.batch_size,
            seed=1,
            device=self.device,
            images_in=images_in,
        )
        generator, light_generator = torch.Generator(self.device), torch.Generator(self.device)
        sigma = torch.from_numpy(SKY_SIGMA[: len(bands)])
        views = Views(self.settings.augment, self.settings.stretch, sigma, bands, generator)
        inject = Injector(self.settings.injection, bands, sigma.numpy(), light_generator)
        epochs = itertools.count()

        def backward(flux: Tensor, sky_sigma: Tensor, psf_fwhm: Tensor) -> Tensor:
            view_a, view_b = views.pair(flux, sky_sigma, psf_fwhm, inject(flux, psf_fwhm))
            return backpropagate(network, view_a, view_b, self.settings.injection, self.precision)

        step = Recorded(backward, model, [generator, light_generator]) if recorded else backward

        def turn() -> int:
            for number, batch in enumerate(images.batches(next(epochs))):
                generator.manual_seed(number)
                light_generator.manual_seed(number)
                step(batch.flux, batch.sky_sigma, batch.psf_fwhm)
                optimizer.step()
            return 2 * self.batch_size * len(images)

        where = {"memory": "images in memory", "stream": "images streamed"}[images_in]
        how = ", compiled" if compiled else ", no CUDA graph" if self.device.type == "cuda" and not recorded else ""
        return Variant(f"tidalkin: {where}{how}", turn)

    def compiled(self) -> tuple[list[Variant], list[str]]:
        """Build the training with `torch.compile`; where it fails, return one line that says so."""
        variant = self.ours("memory", compiled=True)
        try:
            variant.turn()
        except Exception as error:  # the compilers raise errors of many kinds
            return [], [f"{variant.name}: fails ({first_line(error)})"]
        return [variant], []

    def lightly(self) -> Variant:
        """Build the SimSiam of lightly's documentation."""
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead
        from lightly.transforms import SimSiamTransform
        from PIL import Image

        settings = self.settings.encoder
        backbone = Encoder(RGB, settings)
        projector = SimSiamProjectionHead(backbone.feature_dim, settings.projector_size, settings.projector_size)
        predictor = SimSiamPredictionHead(settings.projector_size, settings.predictor_size, settings.projector_size)
        model = self._placed(nn.ModuleList([backbone, projector, predictor]))
        optimizer = self._optimizer(model)
        criterion = NegativeCosineSimilarity()
        random = np.random.default_rng(1)
        size, crop = self.settings.images.size, self.settings.augment.crop // self.settings.stretch.bin
        pictures = [Image.fromarray(random.integers(0, 256, (size, size, RGB), np.uint8)) for _ in range(self.galaxies)]
        transform = SimSiamTransform(input_size=crop)
        loader = torch.utils.data.DataLoader(
            _Transformed(pictures, transform),
            batch_size=self.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.device.type == "cuda",
        )

        def turn() -> int:
            for pair in loader:
                x_a, x_b = (
                    x.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last) for x in pair
                )
                with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
                    z_a, z_b = projector(backbone(x_a)), projector(backbone(x_b))
                    p_a, p_b = predictor(z_a), predictor(z_b)
                loss = 0.5 * (criterion(p_a, z_b.detach()) + criterion(p_b, z_a.detach()))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            return 2 * self.batch_size * len(loader)

        return Variant(f"lightly: SimSiam, {self.workers} workers", turn)

    def _model(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        encoder = Encoder(network_channels(self.settings), self.settings.encoder)
        model = self._placed(SimSiam(encoder, self.settings.encoder, injection=self.settings.injection.enabled))
        return model, self._optimizer(model)

    def _placed(self, model: nn.Module) -> nn.Module:
        return model.train().to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        training = self.settings.training
        return torch.optim.SGD(
            model.parameters(), lr=1e-3, momentum=training.momentum, weight_decay=training.weight_decay
        )


def missing_peer() -> str | None:
    """Say in one line why lightly cannot be measured; None if it can."""
    try:
        for module in ("lightly.loss", "lightly.models.modules", "lightly.transforms"):
            importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        return "lightly: not installed" if package == "lightly" else f"lightly: needs the package {package}"
    except ImportError as error:
        return f"lightly: cannot be imported ({first_line(error)})"
    return None


class _Transformed(torch.utils.data.Dataset):
    """Pictures in memory, each transformed when asked for."""

    def __init__(self, pictures: list, transform: Callable[[object], list[Tensor]]) -> None:
        self.pictures, self.transform = pictures, transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> list[Tensor]:
        return self.transform(self.pictures[row])


# --- embedding ---------------------------------------------------------------------------------------------------


def embeddings(settings: config.Settings, galaxies: int) -> list[Variant]:
    """Build the embedding, and the network alone on the same number of images."""
    device = choose_device(settings.compute.device)
    precision = choose_precision(settings.compute.precision, device)
    bands, size = settings.cutouts.bands, settings.images.size
    loaded = random_encoder(
        bands,
        SKY_SIGMA[: len(bands)],
        **{"stretch": settings.stretch, "settings": settings.encoder, "image_size": size, "seed": 1},
    )
    flux = np.random.default_rng(1).standard_normal((galaxies, len(bands), size, size), dtype=np.float32)
    n_views = galaxies * settings.embedding.symmetries
    side = (settings.embedding.crop or size) // settings.stretch.bin
    batch_size = min(settings.compute.embed_batch_size, galaxies)
    images = torch.rand(batch_size, network_channels(settings), side, side, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    encoder = loaded.encoder.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def ceiling() -> int:
        with torch.inference_mode(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
            for _ in range(n_views // batch_size):
                encoder.readout(images)
        return n_views // batch_size * batch_size

    def ours() -> int:
        features(loaded, flux, settings.embedding, settings.compute)
        return n_views

    symmetries = settings.embedding.symmetries
    return [
        Variant("embedding, ceiling: the network alone", ceiling),
        Variant(f"embedding, tidalkin: {symmetries} symmetries", ours),
    ]


# --- measuring ---------------------------------------------------------------------------------------------------


def measure(variants: list[Variant], rounds: int) -> None:
    """Let the variants take turns; the first turn of each only warms up."""
    for number in range(rounds + 1):
        for variant in variants:
            with _peak_memory() as peak:
                began, cpu_began = time.perf_counter(), _cpu_seconds()
                n_views = variant.turn()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                rates = n_views / (time.perf_counter() - began), n_views / max(_cpu_seconds() - cpu_began, CLOCK_TICK)
            if number:
                variant.rates.append(rates[0])
                variant.cpu_rates.append(rates[1])
                variant.peak_bytes = max(variant.peak_bytes, peak[0])


def _cpu_seconds() -> float:
    """Add up the processor time of this process and its living children."""
    process = psutil.Process()
    return sum(sum(member.cpu_times()[:2]) for member in [process, *process.children()])


@contextmanager
def _peak_memory() -> Iterator[list[int]]:
    """Watch the peak of memory: of the GPU, else of this process and its children."""
    peak = [0]
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        yield peak
        peak[0] = torch.cuda.max_memory_allocated()
        return
    process, done = psutil.Process(), threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            family = [process, *process.children()]
            peak[0] = max(peak[0], sum(member.memory_info().rss for member in family))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def _released(variants: list[Variant]) -> list[Variant]:
    """Release the networks and images of measured variants; keep their measurements."""
    return [replace(variant, turn=int) for variant in variants]


def ratio(rates: list[float], others: list[float]) -> float:
    """Compute the median of the ratios turn by turn; neighbouring turns see the same machine."""
    return statistics.median(one / other for one, other in zip(rates, others, strict=True))


def table(title: str, groups: Sequence[Sequence[Variant]], missing: Sequence[str]) -> Table:
    """Tabulate rates, shares of each group's first variant, the ceiling, and memory."""
    found = Table(title=title)
    for column in ("", "views/s", "of ceiling", "of ceiling, CPU time", "peak memory, GB"):
        found.add_column(column, justify="right" if column else "left")
    for variants in groups:
        found.add_section()
        for variant in variants:
            found.add_row(
                variant.name,
                f"{variant.rate:.1f}",
                f"{ratio(variant.rates, variants[0].rates):.3f}",
                f"{ratio(variant.cpu_rates, variants[0].cpu_rates):.3f}",
                f"{variant.peak_bytes / 1e9:.2f}",
            )
    found.add_section()
    for name in missing:
        found.add_row(name, *["-"] * 4)
    return found


def profile(variant: Variant) -> str:
    """Break the time of one turn down by operator."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    sort_by = "self_cpu_time_total"
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
        sort_by = "self_cuda_time_total"
    with torch.profiler.profile(activities=activities) as found:
        variant.turn()
    return found.key_averages().table(sort_by=sort_by, row_limit=20, max_name_column_width=40)


def main(
    config_file: Annotated[
        Path | None, typer.Option("--config", help="A run's configuration; none: the published settings.")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Channels of the first stage, instead of the configured.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Galaxies per step, instead of the configured.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps per turn.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each variant.")] = 5,
    workers: Annotated[int, typer.Option(min=0, help="Workers of lightly's DataLoader.")] = len(
        os.sched_getaffinity(0)
    ),
    embed: Annotated[int, typer.Option(min=1, help="Galaxies embedded per turn.")] = 64,
    show_profile: Annotated[bool, typer.Option("--profile", help="Also print where our time goes.")] = False,
    compile: Annotated[bool, typer.Option(help="Also with torch.compile.")] = False,
) -> None:
    """Measure and print the table."""
    settings = config.load_settings(yaml.safe_load(config_file.read_text()) if config_file else {})
    training = settings.training.model_copy(update={"batch_size": batch_size} if batch_size else {})
    encoder = settings.encoder.model_copy(update={"width": width} if width else {})
    settings = settings.model_copy(update={"training": training, "encoder": encoder})
    galaxies = steps * training.batch_size
    folder = Path(tempfile.mkdtemp())
    console = Console(width=110)
    try:
        make_store(folder / "images.zarr", settings, galaxies)
        trainings = Trainings(folder / "images.zarr", settings, galaxies, workers)
        on_gpu = trainings.device.type == "cuda"
        variants = [trainings.ceiling(), *(trainings.ours(place, recorded=on_gpu) for place in ("memory", "stream"))]
        variants += [trainings.ours("memory")] if on_gpu else []
        compiled, not_compiled = trainings.compiled() if compile else ([], [])
        no_peer = missing_peer()
        variants += [*compiled, *([trainings.lightly()] if no_peer is None else [])]
        measure(variants, rounds)
        if show_profile:
            console.print(profile(variants[1]))
        variants = _released(variants)
        embedding = embeddings(settings, embed)
        measure(embedding, rounds)

        device = torch.cuda.get_device_name() if trainings.device.type == "cuda" else trainings.device.type
        side = settings.augment.crop // settings.stretch.bin
        what = (
            f"{settings.encoder.architecture} of width {encoder.width}, batches of {training.batch_size}, {side} pixel "
            f"views, {str(trainings.precision).removeprefix('torch.')} on {device} ({torch.get_num_threads()} threads)"
        )
        missing = not_compiled if no_peer is None else [*not_compiled, no_peer]
        console.print(table(what, [variants, embedding], missing))
        if no_peer is None:
            ours, peer = variants[1], variants[-1]
            console.print(
                f"tidalkin is {ratio(ours.rates, peer.rates):.2f} times as fast as lightly, "
                f"{ratio(ours.cpu_rates, peer.cpu_rates):.2f} times by processor time"
            )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
