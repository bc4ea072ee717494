"""torchvision's residual blocks, also beside a CPU-only torch.

torchvision's wheel on PyPI has its compiled operators built for CUDA only. Beside a CPU-only torch they cannot be
loaded, and ``import torchvision`` fails with ``operator torchvision::nms does not exist``, although the networks use
none of them. Where that happens, and only there, this module declares the schemas of the missing operators (detection
operators: they stay uncallable) and imports torchvision again. Import torchvision through this module.
"""

from __future__ import annotations

import importlib
import sys

import torch

_MISSING_OPERATORS = ("nms", "qnms")


def _declare_missing_operators() -> torch.library.Library:
    """Declare the operators; they exist as long as the returned library does."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _MISSING_OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


try:
    importlib.import_module("torchvision")
except RuntimeError as error:
    if "operator torchvision::" not in str(error):
        raise
    _declared = _declare_missing_operators()
    # What the failed import left behind would hide the declarations.
    for _name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[_name]
    importlib.import_module("torchvision")

from torchvision.models.resnet import BasicBlock, Bottleneck  # noqa: E402  (only importable after the above)

__all__ = ["BasicBlock", "Bottleneck"]
