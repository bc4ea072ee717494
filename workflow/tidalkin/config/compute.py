"""Configuration of devices, workers and memory.

These keys decide how a result is computed. Some of them, such as precision and device, change it slightly, by rounding.
They are never a rule's ``params``, so changing them re-runs nothing.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tidalkin.config.base import Section


class Dask(Section):
    """The Dask cluster that converts cutouts."""

    cluster: Literal["local", "slurm", "address"] = Field(
        "local", description="Kind of cluster: local processes, SLURM jobs, or one that is already running."
    )
    workers: int | None = Field(
        None, ge=1, le=10_000, description="Workers. By default, as many as the rule has threads."
    )
    address: str | None = Field(None, description="Scheduler address, with `cluster: address`.")
    slurm: dict[str, Any] = Field(
        default_factory=dict,
        description="Arguments of dask_jobqueue.SLURMCluster: queue, account, cores, memory, ... Jobs write their "
        "output to `results/<run>/logs/dask`.",
    )

    @model_validator(mode="after")
    def _address_is_given(self) -> Self:
        if self.cluster == "address" and not self.address:
            raise ValueError("cluster `address` needs `address`: the scheduler's, like tcp://host:8786")
        return self


class Compute(Section):
    """Devices, workers and memory. Changing these re-runs nothing."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Device; `auto` uses the best available one."
    )
    gpus: int = Field(
        0,
        ge=0,
        le=64,
        description="GPUs of the training job. If not 0, `whiten`, `embed` and `completeness` ask for one per job.",
    )
    processes: int = Field(1, ge=1, le=64, description="CPU processes of a training job without GPUs.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Precision of the network. `auto` is bfloat16 on CUDA and on processors that compute in it "
        "(AVX512-BF16), otherwise float32.",
    )
    compile: bool = Field(False, description="Use torch.compile.")
    images_in: Literal["auto", "memory", "stream"] = Field(
        "auto",
        description="Keep the training images in the device's memory, or stream them by shard. `auto` decides by their "
        "size.",
    )
    embed_batch_size: int = Field(256, ge=1, le=65_536, description="Images per forward pass when embedding.")
    dask: Dask = Dask()
