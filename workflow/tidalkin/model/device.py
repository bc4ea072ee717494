"""The one place where the device and its precision are chosen."""

from __future__ import annotations

import torch

from tidalkin.errors import TidalkinError


def choose_device(name: str) -> torch.device:
    """The device for ``compute.device``: `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises
    ------
    TidalkinError
        If a device is named that this machine does not have.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(candidate for candidate in ("cuda", "mps", "cpu") if available[candidate])
    if not available[name]:
        has = ", ".join(candidate for candidate, present in available.items() if present)
        raise TidalkinError(f"compute.device is {name!r}, but torch sees only {has} here: use one of these or `auto`")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The type of the forward pass for ``compute.precision``.

    `auto` takes bfloat16 on CUDA and on processors that compute in it; on others it is slower than float32.
    """
    if name == "auto":
        computes_in_bfloat16 = {"cuda": True, "cpu": bool(torch.cpu.get_capabilities().get("avx512_bf16"))}
        name = "bfloat16" if computes_in_bfloat16.get(device.type) else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
