"""An invented catalog in the layout of GALAXY CRUISE, season 1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

HEADER = (
    *("object_id", "R.A.", "Dec.", "specz", "zcmodel_mag", "tract", "patch", "layer", "num_class", "galaxy_type"),
    *("interaction", "ring", "fan", "tail", "distortion", "valid_frac(galaxy_type)", "valid_frac(interaction)"),
    *("specObjID", "R.A.", "Dec.", "MJD", "plate", "fiberID", "z", "zErr", "class", "zWarning", "legacyPrimary"),
)
KINDS = ("ring", "fan", "tail", "distortion")


def write_cruise_catalog(path: Path, n_galaxies: int = 40, places: Sequence[tuple[float, float]] | None = None) -> None:
    """Write a catalog, at the given places (ra, dec) if there are any.

    Every second galaxy has a feature, each kind in turn. Two others are undecided.
    """
    random = np.random.default_rng(3)
    lines = [",".join(HEADER)]
    for number in range(1, n_galaxies + 1):
        has_feature = number % 2 == 0
        interaction = 0.35 if number in (1, 3) else 0.9 if has_feature else 0.1
        votes = dict.fromkeys(KINDS, "0.05" if has_feature else "null")
        if has_feature:
            votes[KINDS[number // 2 % 4]] = "0.8"
        ra, dec = places[number - 1] if places else (150 + number / 100, 2 + number / 200)
        z = random.uniform(0.02, 0.2)
        ours = [number, f"{ra:.6f}", f"{dec:.6f}", f"{z:.4f}", f"{random.uniform(14, 17):.2f}", 9813, 404, "Wide", 43]
        theirs = [10**17 + number, f"{ra + 1e-4:.5f}", f"{dec:.5f}", "null", "null", "null", f"{z:.4f}", "null"]
        row = [*ours, 0.6, interaction, *(votes[kind] for kind in KINDS), 0.9, 0.95, *theirs, "null", 0, "null"]
        lines.append(",".join(map(str, row)))
    path.write_text("\n".join(lines) + "\n")
