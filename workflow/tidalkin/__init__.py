"""Find galaxies that look like the one you point at, in Hyper Suprime-Cam images.

`open_run` opens the results of a finished run, to search them and to look at their galaxies.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidalkin.run import Run, open_run

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "open_run"]


def __getattr__(name: str) -> Any:
    """Import the front door when it is first used, so that ``import tidalkin`` is fast."""
    if name in ("Run", "open_run"):
        return getattr(import_module("tidalkin.run"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
