"""Measure how fast the encoder embeds with batch norms folded, and compiled.

    OMP_NUM_THREADS=1 python benchmarks/embedding.py
    OMP_NUM_THREADS=1 python benchmarks/embedding.py --config config/config.yaml --images 128

All ways compute the readout of the same images, in one process and in turns. The table has the ratio to the first way,
by wall clock and by processor time, and the smallest cosine between a readout and that of the first way.

eager          The encoder as `tidalkin.embedding.features` runs it, with channels last in memory.
channels first The same, in torch's usual order of memory.
folded         Batch norms folded into the convolutions before them.
compiled       Folded, then compiled by `torch.compile` with Inductor's freezing, which packs the weights.

Compiling needs a C++ compiler and is given up after `--seconds`. The table then says so. The cache of compiled code is
a temporary folder, unless TORCHINDUCTOR_CACHE_DIR names one.
"""

from __future__ import annotations

import copy
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer
import yaml
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from training import Variant, measure, network_channels, ratio

from tidalkin import config
from tidalkin.errors import first_line
from tidalkin.model.device import choose_device, choose_precision
from tidalkin.model.simsiam import Encoder

Readout = Callable[[Tensor], Tensor]


def trained_encoder(settings: config.Settings, images: Tensor) -> Encoder:
    """Build a random encoder whose batch norms have seen images."""
    torch.manual_seed(1)
    encoder = Encoder(images.shape[1], settings.encoder).train()
    with torch.no_grad():
        for _ in range(3):
            encoder.stages(images[:16])
    return encoder.eval()


def folded(encoder: Encoder) -> Encoder:
    """Copy an encoder with its batch norms folded into the convolutions before them."""
    new = copy.deepcopy(encoder)
    for module in list(new.modules()):
        names = dict(module.named_children())
        pairs = [(f"conv{n}", f"bn{n}") for n in (1, 2, 3) if f"bn{n}" in names]
        if isinstance(names.get("0"), nn.Conv2d) and isinstance(names.get("1"), nn.BatchNorm2d):
            pairs.append(("0", "1"))
        for convolution, norm in pairs:
            setattr(module, convolution, fuse_conv_bn_eval(names[convolution], names[norm]))
            setattr(module, norm, nn.Identity())
    return new


def compiled(encoder: Encoder) -> Readout:
    """Compile the readout of an encoder; the first call compiles."""
    from torch._inductor import config as inductor

    # In this process, so that a time limit also stops it.
    inductor.compile_threads = 1
    inductor.freezing = True
    return torch.compile(encoder.readout)


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise `TimeoutError` in a block that takes longer."""

    def stop(_number: int, _frame: object) -> None:
        raise TimeoutError(f"not finished after {seconds} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def main(
    config_file: Annotated[Path, typer.Option("--config", help="A run's configuration.")] = Path(
        "config/hsc_pdr3.yaml"
    ),
    width: Annotated[int | None, typer.Option(help="Channels of the first stage, instead of the configured.")] = None,
    images: Annotated[int, typer.Option(min=1, help="Images of a turn, in one batch.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each way.")] = 5,
    seconds: Annotated[int, typer.Option(min=1, help="Longest time to compile.")] = 300,
    compile: Annotated[bool, typer.Option(help="Also compile.")] = True,
) -> None:
    """Measure and print the table."""
    settings = config.load_settings(yaml.safe_load(config_file.read_text()))
    if width:
        settings = settings.model_copy(update={"encoder": settings.encoder.model_copy(update={"width": width})})
    device = choose_device(settings.compute.device)
    precision = choose_precision(settings.compute.precision, device)
    side = (settings.embedding.crop or settings.images.size) // settings.stretch.bin
    generator = torch.Generator().manual_seed(1)
    blurred = torch.rand(images, network_channels(settings), side, side, generator=generator)
    first = functional.avg_pool2d(blurred, 3, 1, 1).to(device)
    last = first.contiguous(memory_format=torch.channels_last)
    encoder = trained_encoder(settings, first.cpu()).to(device)
    eager = copy.deepcopy(encoder).to(memory_format=torch.channels_last)
    merged = folded(encoder).to(memory_format=torch.channels_last)
    autocast = torch.autocast(device.type, precision, enabled=precision != torch.float32)

    def way(readout: Readout, batch: Tensor) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.inference_mode(), autocast:
                return readout(batch)

        return run

    ways = {
        "eager": way(eager.readout, last),
        "channels first": way(encoder.readout, first),
        "folded": way(merged.readout, last),
    }
    missing = "not asked for"
    took = 0.0
    if compile:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.mkdtemp())
        fast = way(compiled(merged), last)
        began = time.perf_counter()
        try:
            with time_limit(seconds):
                fast()
            ways["compiled"], took = fast, time.perf_counter() - began
        except Exception as error:  # of the compiler, of any kind
            missing = first_line(error)[:60]
    reference = ways["eager"]()
    cosine = {name: functional.cosine_similarity(run(), reference).min().item() for name, run in ways.items()}
    variants = [Variant(name, lambda run=run: len(run())) for name, run in ways.items()]
    measure(variants, rounds)

    found = Table(
        title=f"{settings.encoder.architecture} of width {settings.encoder.width}, {images} images of {side} pixels, "
        f"{str(precision).removeprefix('torch.')} on {device.type} ({torch.get_num_threads()} threads)"
    )
    for column in ("way", "images/s", "of eager", "of eager, CPU time", "1 - cosine"):
        found.add_column(column, justify="right" if column != "way" else "left")
    for variant in variants:
        found.add_row(
            variant.name,
            f"{variant.rate:.1f}",
            f"{ratio(variant.rates, variants[0].rates):.2f}",
            f"{ratio(variant.cpu_rates, variants[0].cpu_rates):.2f}",
            f"{max(0.0, 1 - cosine[variant.name]):.0e}",
        )
    if "compiled" not in ways:
        found.add_row(f"compiled: {missing}", *["-"] * 4)
    console = Console(width=110)
    console.print(found)
    if took:
        console.print(f"compiled in {took:.0f} s")


if __name__ == "__main__":
    typer.run(main)
