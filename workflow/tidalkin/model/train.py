"""Train SimSiam on all images, without labels (Chen & He 2021, arXiv:2011.10566).

Start reading at `train`. The loop is `_train_loop`. With several GPUs or CPU processes, `train` starts a group of
processes (``torch.distributed.run``), each of which runs the same loop on its share of every batch.

Every random draw has its own seed, derived from the configured seed, the epoch and the step, so that no state of a
generator is stored. An interrupted run resumes from its last complete epoch. It ends with the same weights as an
undisturbed run, bit for bit on the same CPU.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import psutil
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from tidalkin import config
from tidalkin.atomic import atomic_path, disk_errors
from tidalkin.errors import TidalkinError
from tidalkin.images.store import ImageStore
from tidalkin.injection.injector import Injector
from tidalkin.injection.stamp_files import stamps_digest
from tidalkin.injection.stamps import read_stamps
from tidalkin.model.augment import View, Views
from tidalkin.model.checkpoint import save_encoder, torch_loaded
from tidalkin.model.data import Rows, TrainingImages
from tidalkin.model.device import choose_device, choose_precision
from tidalkin.model.heads import injection_loss, map_loss
from tidalkin.model.recorded import Recorded
from tidalkin.model.simsiam import Encoder, Outputs, SimSiam, loss, synchronise_batch_norm
from tidalkin.model.stretch import band_sigma, channel_count
from tidalkin.seeds import derived_seed

logger = logging.getLogger(__name__)

STEPS_BETWEEN_REPORTS = 50


class Job(config.Section):
    """Arguments of a training run, for each of its processes."""

    store: Path
    output: Path
    stretch: config.Stretch
    augment: config.Augment
    encoder: config.Network
    training: config.Training
    injection: config.Injection
    seed: int
    compute: config.Compute
    launcher: int = 0
    """Process id of the run that started this group of processes."""

    @property
    def workplace(self) -> Path:
        """Folder of the checkpoint, outside the outputs, which Snakemake deletes before a rule runs again."""
        return self.output.with_name(self.output.name + ".partial")


@dataclass(frozen=True)
class Epoch:
    """One row of the history."""

    epoch: int
    """From 1."""
    step: int
    """Steps since the beginning."""
    loss: float
    """SimSiam's loss, mean over the epoch, -1..1."""
    injection_loss: float
    """Cross-entropy of whether light was injected, mean over the epoch; 0 without injected light."""
    map_loss: float
    """Cross-entropy of where light was injected, mean over the epoch; 0 without injected light."""
    learning_rate: float
    """Learning rate of encoder and projector at the end of the epoch."""
    collapse_std: float
    """Collapse monitor: standard deviation of the normalised projection per dimension, times sqrt(dim)."""
    images_per_second: float
    """Views through the network, of which each galaxy has two."""


def train(
    store: str | Path,
    output: str | Path,
    *,
    stretch: config.Stretch,
    augment: config.Augment,
    encoder: config.Network,
    training: config.Training,
    injection: config.Injection,
    seed: int,
    compute: config.Compute,
) -> None:
    """Train an encoder, or resume an interrupted training on the same images and configuration.

    Parameters
    ----------
    store : path
        The image store.
    output : path
        Folder for ``encoder.pt``, ``history.csv`` and ``tensorboard/``. The checkpoint of each epoch is kept beside it,
        in ``<output>.partial/``, until training is complete.
    stretch, augment, encoder, training, injection : config sections
        The sections that change the result.
    seed : int
        The seed of the run.
    compute : config.Compute
        Device, processes, precision.

    Raises
    ------
    TidalkinError
        If there are too few good images for one batch, if training collapses or diverges, or if the configured devices
        are missing.

    Examples
    --------
    >>> from tidalkin import open_run
    >>> settings = open_run("results/demo").settings
    >>> names = ("stretch", "augment", "encoder", "training", "injection", "compute")
    >>> train("results/demo/images.zarr", "new", seed=1, **{name: getattr(settings, name) for name in names})
    >>> sorted(path.name for path in Path("new").iterdir())
    ['encoder.pt', 'history.csv', 'tensorboard']
    """
    job = Job(
        store=Path(store),
        output=Path(output),
        stretch=stretch,
        augment=augment,
        encoder=encoder,
        training=training,
        injection=injection,
        seed=seed,
        compute=compute,
    )
    processes = _count_processes(compute)
    if training.batch_size % processes:
        raise TidalkinError(
            f"training.batch_size {training.batch_size} must be a multiple of the {processes} processes that share it: "
            f"try {math.ceil(training.batch_size / processes) * processes}"
        )
    if processes == 1:
        _train_loop(job)
    else:
        _run_in_group(job, processes)


# --- the loop -------------------------------------------------------------------------------------------------------


def _train_loop(job: Job, rank: int = 0, processes: int = 1) -> None:
    """Train, alone or as one of several processes."""
    settings = job.training
    device = _device_of(job.compute, rank, processes)
    precision = choose_precision(job.compute.precision, device)
    # Fixed algorithms give the same weights every time. A search for faster ones would end differently each time.
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False

    store = ImageStore.open(job.store)
    bands = list(store.bands)
    sigma = band_sigma(store, settings.minimum_good_fraction)
    rows = _rows_to_train_on(store, settings)
    digest = _job_digest(job, store, rows)
    images = TrainingImages(
        store,
        rows,
        batch_size=settings.batch_size,
        window=settings.shuffle_window,
        seed=job.seed,
        device=device,
        images_in=job.compute.images_in,
        rank=rank,
        processes=processes,
    )
    generator = torch.Generator(device)
    views = Views(job.augment, job.stretch, torch.from_numpy(sigma), bands, generator, rank=rank, processes=processes)

    light_generator = torch.Generator(device)
    stamps = read_stamps(job.injection.stamps, bands, store.size) if job.injection.enabled else None
    inject = Injector(job.injection, bands, sigma, light_generator, stamps=stamps, rank=rank, processes=processes)

    model = _new_model(len(bands), job).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if processes > 1:
        model = synchronise_batch_norm(model)
    optimizer = _new_optimizer(model, settings)
    highest_rate = optimizer.param_groups[1]["lr"]
    history = _resume(job.workplace / "last.pt", digest, model, optimizer)
    record = _Record(job.output, history) if rank == 0 else None

    network: nn.Module = model
    if processes > 1:
        network = nn.parallel.DistributedDataParallel(
            model, device_ids=[device.index] if device.type == "cuda" else None, broadcast_buffers=False
        )
    if job.compute.compile:
        network = torch.compile(network)  # type: ignore[assignment]
    network.train()
    paints_nuisances = job.injection.enabled and job.injection.nuisances.enabled

    def draw_and_backpropagate(flux: Tensor, sky_sigma: Tensor, psf_fwhm: Tensor) -> Tensor:
        light = inject(flux, psf_fwhm) if job.injection.enabled else None
        painted = inject.nuisances(flux, sky_sigma, psf_fwhm) if paints_nuisances else flux
        view_a, view_b = views.pair(painted, sky_sigma, psf_fwhm, light)
        return backpropagate(network, view_a, view_b, job.injection, precision, processes)

    learn: Callable[[Tensor, Tensor, Tensor], Tensor] = draw_and_backpropagate
    if device.type == "cuda" and processes == 1 and not job.compute.compile:
        learn = Recorded(draw_and_backpropagate, model, [generator, light_generator])

    for epoch in range(len(history), settings.epochs):
        began = time.perf_counter()
        totals = torch.zeros(4, device=device)
        for step, batch in enumerate(images.batches(epoch)):
            _end_with_launcher(job)
            rate = highest_rate * rate_factor(epoch + step / len(images), settings)
            optimizer.param_groups[0]["lr"] = rate

            generator.manual_seed(derived_seed(job.seed, "views", epoch, step))
            light_generator.manual_seed(derived_seed(job.seed, "light", epoch, step))
            totals += learn(batch.flux, batch.sky_sigma, batch.psf_fwhm)
            optimizer.step()
            if (step + 1) % STEPS_BETWEEN_REPORTS == 0 or step + 1 == len(images):
                similarity, injected, where, collapse_std = (totals / (step + 1)).tolist()
                row = Epoch(
                    epoch=epoch + 1,
                    step=epoch * len(images) + step + 1,
                    loss=similarity,
                    injection_loss=injected,
                    map_loss=where,
                    learning_rate=rate,
                    collapse_std=collapse_std,
                    images_per_second=2 * settings.batch_size * (step + 1) / (time.perf_counter() - began),
                )
                _stop_if_diverged(row, settings)
                logger.info(
                    "epoch %d/%d, step %d/%d: loss %.4f, injection %.4f, map %.4f, collapse_std %.3f, %.0f images/s",
                    *(row.epoch, settings.epochs, step + 1, len(images)),
                    *(row.loss, row.injection_loss, row.map_loss, row.collapse_std, row.images_per_second),
                )
        _stop_if_collapsed(row, settings)
        history.append(row)
        if record:
            record.add(row)
            _save_checkpoint(job.workplace / "last.pt", digest, model, optimizer, history)

    if record:
        record.close()
        save_encoder(
            job.output / "encoder.pt",
            model.encoder,
            debris_map=model.debris_map,
            bands=bands,
            sigma=sigma,
            stretch=job.stretch,
            settings=job.encoder,
            image_size=store.size,
            config_digest=digest,
        )
        shutil.rmtree(job.workplace)


def backpropagate(
    network: nn.Module,
    view_a: View,
    view_b: View,
    injection: config.Injection,
    precision: torch.dtype,
    processes: int = 1,
) -> Tensor:
    """Compute the gradients of the weights from one batch of pairs of views.

    Returns
    -------
    (4,) tensor, on the device
        Loss of SimSiam, of the injection head and of the debris map, and the collapse monitor.

    Examples
    --------
    >>> network = config.Network(width=8, projector_size=16, predictor_size=8)
    >>> model = SimSiam(Encoder(2, network), network)
    >>> view_a, view_b = (View(torch.randn(4, 2, 32, 32), None) for _ in range(2))
    >>> backpropagate(model, view_a, view_b, config.Injection(), torch.float32).shape
    torch.Size([4])
    """
    with torch.autocast(view_a.image.device.type, dtype=precision, enabled=precision != torch.float32):
        outputs: Outputs = network(
            view_a.image.contiguous(memory_format=torch.channels_last),
            view_b.image.contiguous(memory_format=torch.channels_last),
        )
    losses = _losses(outputs, view_a, view_b)
    similarity, injected, where = losses
    network.zero_grad(set_to_none=True)
    (similarity + injection.head_weight * injected + injection.map_weight * where).backward()
    return _monitored(losses, outputs.z_a, processes)


def _losses(outputs: Outputs, view_a: View, view_b: View) -> Tensor:
    """Compute the losses of SimSiam, of the injection head and of the debris map, (3,)."""
    similarity = loss(outputs.p_a, outputs.p_b, outputs.z_a, outputs.z_b)
    if outputs.injected is None or outputs.debris_map is None or view_a.light is None or view_b.light is None:
        return torch.stack([similarity, torch.zeros_like(similarity), torch.zeros_like(similarity)])
    light = torch.cat([view_a.light, view_b.light])
    injected = light.flatten(1).amax(dim=1) > 0
    return torch.stack([similarity, injection_loss(outputs.injected, injected), map_loss(outputs.debris_map, light)])


def _new_optimizer(model: SimSiam, settings: config.Training) -> torch.optim.Optimizer:
    """Make the optimizer, whose second group, the predictor, keeps its rate (paper, section 4.1)."""
    predictor = list(model.predictor.parameters())
    theirs = {id(parameter) for parameter in predictor}
    groups = [
        {"params": [parameter for parameter in model.parameters() if id(parameter) not in theirs]},
        {"params": predictor},
    ]
    rate = settings.base_learning_rate * settings.batch_size / 256
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(groups, lr=rate, momentum=settings.momentum, weight_decay=settings.weight_decay)


def rate_factor(epoch: float, settings: config.Training) -> float:
    """Compute the learning rate after ``epoch`` epochs, as a share of the highest.

    The rate rises linearly during the warm-up and then falls along half a cosine. ``epoch`` may be fractional.

    Examples
    --------
    >>> settings = config.Training(epochs=20, warmup_epochs=10)
    >>> [rate_factor(epoch, settings) for epoch in (0, 5, 10, 15, 20)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    warmup = min(settings.warmup_epochs, settings.epochs / 2)
    if epoch < warmup:
        return epoch / warmup
    done = (epoch - warmup) / (settings.epochs - warmup)
    return (1 + math.cos(math.pi * done)) / 2


def _new_model(n_bands: int, job: Job) -> SimSiam:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(job.seed, "weights"))
        encoder = Encoder(channel_count(n_bands, job.stretch), job.encoder)
        return SimSiam(encoder, job.encoder, injection=job.injection.enabled)


def _rows_to_train_on(store: ImageStore, settings: config.Training) -> Rows:
    """Select the rows with enough good pixels, and log how many are left out."""
    rows, n_objects = store.good_rows(settings.minimum_good_fraction), store.n_objects
    logger.info(
        "training on %d of %d galaxies; %d have under %g %% good pixels in some band",
        *(len(rows), n_objects, n_objects - len(rows), 100 * settings.minimum_good_fraction),
    )
    if len(rows) < settings.batch_size:
        raise TidalkinError(
            f"training.batch_size is {settings.batch_size}, but only {len(rows)} of {n_objects} galaxies have at least "
            f"training.minimum_good_fraction {settings.minimum_good_fraction:g} good pixels in every band: lower the "
            "batch size or bring more galaxies"
        )
    return rows


# --- monitoring -----------------------------------------------------------------------------------------------------


def _monitored(losses: Tensor, z: Tensor, processes: int) -> Tensor:
    """Compute losses and collapse monitor of one batch over all processes, on the device."""
    z = F.normalize(z.detach().float(), dim=1)
    sums = torch.cat([losses.detach(), z.mean(0), (z**2).mean(0)])
    if processes > 1:
        dist.all_reduce(sums)
        sums /= processes
    mean, square = sums[len(losses) :].chunk(2)
    deviation = (square - mean**2).clamp(min=0).sqrt()
    return torch.cat([sums[: len(losses)], deviation.mean()[None] * math.sqrt(len(mean))])


def _stop_if_diverged(row: Epoch, settings: config.Training) -> None:
    if not all(map(math.isfinite, (row.loss, row.injection_loss, row.map_loss))):
        raise TidalkinError(
            f"training: the loss is {row.loss} in epoch {row.epoch}, step {row.step}: lower "
            f"training.base_learning_rate (now {settings.base_learning_rate:g}) or set training.warmup_epochs, "
            "and run again"
        )


def _stop_if_collapsed(row: Epoch, settings: config.Training) -> None:
    if row.collapse_std < settings.collapse_below:
        raise TidalkinError(
            f"training: the network has collapsed to one output for all images in epoch {row.epoch} (collapse_std "
            f"{row.collapse_std:.3f} is under training.collapse_below {settings.collapse_below:g}): lower "
            f"training.base_learning_rate (now {settings.base_learning_rate:g}), raise training.batch_size (now "
            f"{settings.batch_size}), or widen the ranges in augment, and run again"
        )


class _Record:
    """The history as a table and for TensorBoard."""

    def __init__(self, output: Path, history: Sequence[Epoch]) -> None:
        self.table = output / "history.csv"
        shutil.rmtree(output / "tensorboard", ignore_errors=True)
        with disk_errors(output / "tensorboard"):
            self.tensorboard = SummaryWriter(output / "tensorboard")
        self.rows: list[Epoch] = []
        for row in history:
            self.add(row)

    def add(self, row: Epoch) -> None:
        self.rows.append(row)
        columns = asdict(row)
        with atomic_path(self.table) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(asdict(each) for each in self.rows)
        with disk_errors(self.table.with_name("tensorboard")):
            for name in ("loss", "injection_loss", "map_loss", "learning_rate", "collapse_std", "images_per_second"):
                self.tensorboard.add_scalar(name, columns[name], row.step)
            self.tensorboard.flush()

    def close(self) -> None:
        self.tensorboard.close()


# --- checkpoints ----------------------------------------------------------------------------------------------------


def _job_digest(job: Job, store: ImageStore, rows: Rows) -> str:
    """Digest everything that the weights depend on."""
    content = hashlib.sha256()
    for array in (np.asarray(array)[rows] for array in (store.object_id, store.sky_sigma, store.good_fraction)):
        content.update(array.tobytes())
    made_with = [store.group.attrs["config_digest"], content.hexdigest()]
    if stamps := stamps_digest(job.injection.stamps):
        made_with.append(stamps)
    return config.config_digest(job.stretch, job.augment, job.encoder, job.training, job.injection, job.seed, made_with)


def _save_checkpoint(
    path: Path, digest: str, model: SimSiam, optimizer: torch.optim.Optimizer, history: Sequence[Epoch]
) -> None:
    state = {
        "digest": digest,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": [asdict(row) for row in history],
    }
    # In memory first, because torch reports a full disk without its errno.
    content = io.BytesIO()
    torch.save(state, content)
    with atomic_path(path) as partial:
        partial.write_bytes(content.getbuffer())


def _resume(path: Path, digest: str, model: SimSiam, optimizer: torch.optim.Optimizer) -> list[Epoch]:
    """Restore an interrupted run of the same configuration, if there is one; return its history."""
    if not path.exists():
        return []
    try:
        state: dict[str, Any] = torch_loaded(path.read_bytes())
    except ValueError as error:
        logger.warning("%s: %s: training starts anew", path, error)
        return []
    if state["digest"] != digest:
        logger.info("%s: belongs to other images or another configuration: training starts anew", path)
        return []
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    history = [Epoch(**row) for row in state["history"]]
    logger.info("%s: training goes on after epoch %d", path, len(history))
    return history


# --- several processes ----------------------------------------------------------------------------------------------


def _count_processes(compute: config.Compute) -> int:
    """Count the processes that share the training: one per GPU, or `processes` on the CPU."""
    if compute.gpus > 1:
        if (found := torch.cuda.device_count()) < compute.gpus:
            raise TidalkinError(
                f"compute.gpus is {compute.gpus}, but torch sees {found} here: lower it or ask the cluster for more"
            )
        return compute.gpus
    return compute.processes if choose_device(compute.device).type == "cpu" else 1


def _device_of(compute: config.Compute, rank: int, processes: int) -> torch.device:
    device = choose_device(compute.device)
    if device.type == "cuda":
        device = torch.device("cuda", rank if processes > 1 else torch.cuda.current_device())
        torch.cuda.set_device(device)
    return device


def _run_in_group(job: Job, processes: int) -> None:
    """Start the processes and wait for them.

    The log of rank 0 is passed on, and an error in a process is raised here.
    """
    job = job.model_copy(update={"launcher": os.getpid()})
    job_file, fault_file = job.workplace / "job.json", job.workplace / "fault.txt"
    with disk_errors(job.workplace):
        job.workplace.mkdir(parents=True, exist_ok=True)
        fault_file.unlink(missing_ok=True)
        job_file.write_text(job.model_dump_json())
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"),
        *(f"--nproc-per-node={processes}", "--module", "tidalkin.model.train", str(job_file)),
    ]
    threads = max(1, torch.get_num_threads() // processes)
    package = str(Path(__file__).parents[1])
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
    }
    logger.info("training in %d processes of %d threads", processes, threads)
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as group:
        try:
            for line in group.stdout or ():
                logger.info("%s", line.rstrip())
        except BaseException:
            group.terminate()
            raise
    if group.returncode and fault_file.exists():
        raise TidalkinError(fault_file.read_text())
    if group.returncode:
        raise TidalkinError(
            f"training: one of the {processes} processes ended early (see the lines above; status {group.returncode}): "
            "run again, and it goes on after its last whole epoch"
        )


def _run_as_member(job_file: str) -> None:
    """Run one process of the group that `_run_in_group` started."""
    job = Job.model_validate_json(Path(job_file).read_text())
    rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    logging.basicConfig(level=logging.INFO if rank == 0 else logging.ERROR, format="%(message)s", stream=sys.stdout)
    dist.init_process_group("nccl" if choose_device(job.compute.device).type == "cuda" else "gloo")
    try:
        _train_loop(job, rank, processes)
    except Exception as error:
        if isinstance(error, TidalkinError):
            with atomic_path(job.workplace / "fault.txt") as partial:
                partial.write_text(str(error))
        else:
            logger.exception("process %d of %d", rank, processes)
        _leave_group()
    dist.destroy_process_group()


def _end_with_launcher(job: Job) -> None:
    """Exit if the parent process is gone."""
    if job.launcher and not psutil.pid_exists(job.launcher):
        _leave_group()


def _leave_group() -> NoReturn:
    """End this process at once.

    A regular exit would wait for the other processes, which wait for this one in a collective operation.
    """
    logging.shutdown()
    os._exit(1)


if __name__ == "__main__":
    _run_as_member(sys.argv[1])
