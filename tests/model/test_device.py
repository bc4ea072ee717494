"""The device and its precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tidalkin.errors import TidalkinError
from tidalkin.model.device import choose_device, choose_precision

PROCESSOR = Path("/proc/cpuinfo")


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_by_name(name: str) -> None:
    if getattr(torch, name).is_available():
        pytest.skip(f"this machine has {name}")
    with pytest.raises(TidalkinError, match=f"compute.device is '{name}', but torch sees only cpu"):
        choose_device(name)


def test_auto_takes_a_device_that_is_there() -> None:
    assert torch.ones(1, device=choose_device("auto")).item() == 1


@pytest.mark.skipif(not PROCESSOR.exists(), reason="no /proc/cpuinfo to compare with")
def test_a_processor_that_computes_in_bfloat16_does_so_unless_told_otherwise() -> None:
    cpu = torch.device("cpu")
    has_it = "avx512_bf16" in PROCESSOR.read_text().split()
    assert choose_precision("auto", cpu) == (torch.bfloat16 if has_it else torch.float32)
    assert choose_precision("float32", cpu) == torch.float32


@pytest.mark.parametrize(("name", "precision"), [("cuda", torch.bfloat16), ("mps", torch.float32)])
def test_the_precision_of_other_devices(name: str, precision: torch.dtype) -> None:
    assert choose_precision("auto", torch.device(name)) == precision
