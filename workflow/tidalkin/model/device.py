"""Choose the device and its precision, here and nowhere else."""

from __future__ import annotations

import torch

from tidalkin.errors import TidalkinError


def choose_device(name: str) -> torch.device:
    """Choose the device for ``compute.device``.

    `auto` takes the first that is available of CUDA, Apple's MPS and the CPU.

    Raises
    ------
    TidalkinError
        If this machine does not have the named device.

    Examples
    --------
    >>> choose_device("cpu")
    device(type='cpu')
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(candidate for candidate in ("cuda", "mps", "cpu") if available[candidate])
    if not available[name]:
        has = ", ".join(candidate for candidate, present in available.items() if present)
        raise TidalkinError(f"compute.device is {name!r}, but torch sees only {has} here: use one of these or `auto`")
    return torch.device(name)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Choose the type of the forward pass for ``compute.precision``.

    `auto` takes bfloat16 on CUDA and on processors with bfloat16 instructions. On other processors bfloat16 is slower
    than float32.

    Examples
    --------
    >>> choose_precision("float32", torch.device("cpu"))
    torch.float32
    """
    if name == "auto":
        computes_in_bfloat16 = {"cuda": True, "cpu": bool(torch.cpu.get_capabilities().get("avx512_bf16"))}
        name = "bfloat16" if computes_in_bfloat16.get(device.type) else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
