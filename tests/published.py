"""The published settings of config/desmons2023.yaml, section by section, with changes.

The package's own defaults are what works best, with every kind of change of a view. A test of one thing starts from
these plainer settings.
"""

from pathlib import Path
from typing import Any

import yaml

from tidalkin.config import Augment, Embedding, Network, Stretch, load_settings

SETTINGS = load_settings(
    yaml.safe_load((Path(__file__).parents[1] / "config" / "desmons2023.yaml").read_text(encoding="utf-8"))
)


def stretch(**changes: Any) -> Stretch:
    """Return the published stretch with changes."""
    return Stretch(**SETTINGS.stretch.model_dump() | changes)


def augment(**changes: Any) -> Augment:
    """Return the published views with changes."""
    return Augment(**SETTINGS.augment.model_dump() | changes)


def network(**changes: Any) -> Network:
    """Return the published network with changes."""
    return Network(**SETTINGS.encoder.model_dump() | changes)


def embedding(**changes: Any) -> Embedding:
    """Return the published embedding with changes."""
    return Embedding(**SETTINGS.embedding.model_dump() | changes)
