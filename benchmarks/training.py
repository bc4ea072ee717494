"""How near training and embedding come to what the network alone can do, beside lightly's SimSiam.

    python benchmarks/training.py
    python benchmarks/training.py --config config/config.yaml --batch-size 128

Five ways to train the same network, in one process and in turns (A B C A B C ...), so that what else a machine does
hits all alike; medians of the turns are printed. On a busy machine look at the ratios of processor time (of this
process and its workers; they say nothing of a GPU). One turn is one epoch of made-up galaxies:

ceiling    forward, backward and optimizer on one pair of views that stays on the device: no data path.
tidalkin   `tidalkin.model.train.one_step` on views drawn from images in the device's memory: what training does.
streaming  the same, with the images read from the store during the turn, a window ahead.
lightly    lightly's SimSiam with its usual transforms and DataLoader. These know only 8-bit pictures in three colours,
           so it gets those, ready decoded in memory, and a network of three bands: an easier task than ours.

Embedding is measured likewise: `tidalkin.embedding.features` beside the network alone on images that are ready.

On CUDA all of it runs in bfloat16, as the pipeline does. Memory: the most allocated on the device in a turn. On the CPU
it is the most resident, of this process, which holds the data of all variants, and of lightly's workers, which live
from its first turn on: it tells what the benchmark needs, not what a variant does.
"""

from __future__ import annotations

import itertools
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

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
from tidalkin.images.store import ImageStore, Shard
from tidalkin.injection.injector import Injector
from tidalkin.model.augment import View, Views
from tidalkin.model.checkpoint import random_encoder
from tidalkin.model.data import TrainingImages
from tidalkin.model.device import choose_device, choose_precision
from tidalkin.model.simsiam import Encoder, SimSiam
from tidalkin.model.stretch import channel_count
from tidalkin.model.train import one_step

SKY_SIGMA = np.array([1.5, 2.5, 3.0, 6.0, 12.0], np.float32)  # nJy, about HSC-SSP Wide's
RGB = 3  # bands that lightly's transforms can take


@dataclass
class Variant:
    """One way of doing the work, and what was measured of it."""

    name: str
    turn: Callable[[], int]
    """Works for one turn; returns how many views went through the network."""
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
    """Channels of what the network sees: the bands, and what the stretch adds."""
    return channel_count(len(settings.cutouts.bands), settings.stretch)


# --- training ----------------------------------------------------------------------------------------------------


class Trainings:
    """The ways to train, on the same device with networks of the same kind."""

    def __init__(self, path: Path, settings: config.Settings, galaxies: int, workers: int) -> None:
        self.path, self.settings, self.galaxies, self.workers = path, settings, galaxies, workers
        self.device = choose_device(settings.compute.device)
        self.precision = choose_precision(settings.compute.precision, self.device)
        self.batch_size = settings.training.batch_size

    def ceiling(self) -> Variant:
        """The network alone."""
        network, optimizer = self._network()
        side = self.settings.augment.crop // self.settings.stretch.bin
        pair = torch.rand(2, self.batch_size, network_channels(self.settings), side, side, device=self.device)
        light = torch.rand(2, self.batch_size, 1, side, side, device=self.device)
        view_a, view_b = (View(*drawn) for drawn in zip(pair, light, strict=True))

        def turn() -> int:
            steps = self.galaxies // self.batch_size
            for _ in range(steps):
                one_step(network, optimizer, view_a, view_b, self.settings.injection, self.precision)
            return 2 * self.batch_size * steps

        return Variant("ceiling: the network alone", turn)

    def ours(self, images_in: str) -> Variant:
        """The step of `tidalkin.model.train`."""
        network, optimizer = self._network()
        bands = self.settings.cutouts.bands
        images = TrainingImages(
            ImageStore.open(self.path),
            np.arange(self.galaxies),
            batch_size=self.batch_size,
            window=self.batch_size,
            seed=1,
            device=self.device,
            images_in=images_in,  # type: ignore[arg-type]
        )
        generator = torch.Generator(self.device)
        sigma = torch.from_numpy(SKY_SIGMA[: len(bands)])
        views = Views(self.settings.augment, self.settings.stretch, sigma, bands, generator)
        inject = Injector(self.settings.injection, bands, sigma.numpy(), generator)
        epochs = itertools.count()

        def turn() -> int:
            for step, batch in enumerate(images.batches(next(epochs))):
                generator.manual_seed(step)
                light = inject(batch.flux, batch.psf_fwhm)
                view_a, view_b = views.pair(batch.flux, batch.sky_sigma, batch.psf_fwhm, light)
                one_step(network, optimizer, view_a, view_b, self.settings.injection, self.precision)
            return 2 * self.batch_size * len(images)

        names = {"memory": "tidalkin: images in memory", "stream": "tidalkin: images streamed"}
        return Variant(names[images_in], turn)

    def lightly(self) -> Variant:
        """SimSiam as lightly's documentation has it."""
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

    def _network(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        encoder = Encoder(network_channels(self.settings), self.settings.encoder)
        model = self._placed(SimSiam(encoder, self.settings.encoder))
        network = torch.compile(model) if self.settings.compute.compile else model
        return network, self._optimizer(model)  # type: ignore[return-value]

    def _placed(self, model: nn.Module) -> nn.Module:
        return model.train().to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        training = self.settings.training
        return torch.optim.SGD(
            model.parameters(), lr=1e-3, momentum=training.momentum, weight_decay=training.weight_decay
        )


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
    """Embedding, beside the network alone on as many images."""
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

    return [Variant("ceiling: the network alone", ceiling), Variant("tidalkin: embedding", ours)]


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
                rates = n_views / (time.perf_counter() - began), n_views / (_cpu_seconds() - cpu_began)
            if number:
                variant.rates.append(rates[0])
                variant.cpu_rates.append(rates[1])
                variant.peak_bytes = max(variant.peak_bytes, peak[0])


def _cpu_seconds() -> float:
    """Processor time of this process and its living children."""
    process = psutil.Process()
    return sum(sum(member.cpu_times()[:2]) for member in [process, *process.children()])


@contextmanager
def _peak_memory() -> Iterator[list[int]]:
    """The most memory in use meanwhile: on the GPU if there is one, else of this process and its children."""
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


def _ratio(rates: list[float], others: list[float]) -> float:
    """Median of the ratios turn by turn, since neighbouring turns see the machine in the same state."""
    return statistics.median(one / other for one, other in zip(rates, others, strict=True))


def table(title: str, variants: list[Variant]) -> Table:
    """Rates, shares of the ceiling (the first variant) and memory."""
    found = Table(title=title)
    for column in ("", "views/s", "of ceiling", "of ceiling, CPU time", "peak memory, GB"):
        found.add_column(column, justify="right" if column else "left")
    for variant in variants:
        found.add_row(
            variant.name,
            f"{variant.rate:.1f}",
            f"{_ratio(variant.rates, variants[0].rates):.3f}",
            f"{_ratio(variant.cpu_rates, variants[0].cpu_rates):.3f}",
            f"{variant.peak_bytes / 1e9:.2f}",
        )
    return found


def profile(variant: Variant) -> str:
    """Where the time of one turn goes, by operator."""
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
    compile: Annotated[bool, typer.Option(help="With torch.compile.")] = False,
) -> None:
    """Measure and print the tables."""
    settings = config.load_settings(yaml.safe_load(config_file.read_text()) if config_file else {})
    training = settings.training.model_copy(update={"batch_size": batch_size} if batch_size else {})
    encoder = settings.encoder.model_copy(update={"width": width} if width else {})
    compute = settings.compute.model_copy(update={"compile": compile})
    settings = settings.model_copy(update={"training": training, "encoder": encoder, "compute": compute})
    galaxies = steps * training.batch_size
    folder = Path(tempfile.mkdtemp())
    console = Console(width=110)
    try:
        make_store(folder / "images.zarr", settings, galaxies)
        trainings = Trainings(folder / "images.zarr", settings, galaxies, workers)
        variants = [trainings.ceiling(), trainings.ours("memory"), trainings.ours("stream"), trainings.lightly()]
        measure(variants, rounds)
        device = torch.cuda.get_device_name() if trainings.device.type == "cuda" else f"{trainings.device.type}"
        side = settings.augment.crop // settings.stretch.bin
        what = (
            f"{settings.encoder.architecture} of width {encoder.width}, batches of {training.batch_size}, {side} pixel "
            f"views, {str(trainings.precision).removeprefix('torch.')} on {device} ({torch.get_num_threads()} threads)"
        )
        console.print(table(f"training: {what}", variants))
        ours, peer = variants[1], variants[3]
        console.print(
            f"tidalkin is {_ratio(ours.rates, peer.rates):.2f} times as fast as lightly, "
            f"{_ratio(ours.cpu_rates, peer.cpu_rates):.2f} times by processor time"
        )
        if show_profile:
            console.print(profile(variants[1]))
        del variants, trainings
        embedding = embeddings(settings, embed)
        measure(embedding, rounds)
        console.print(table(f"embedding: {settings.embedding.symmetries} symmetries", embedding))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
