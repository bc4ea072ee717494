"""One seed in the configuration; one generator per task, derived from the seed and the task's name."""

from __future__ import annotations

import hashlib

import numpy as np


def derived_seed(seed: int, *task: str | int) -> int:
    """A 63-bit seed for one task, independent of all other tasks' seeds.

    Examples
    --------
    >>> derived_seed(1, "simulated", 42) == derived_seed(1, "simulated", 42)
    True
    >>> derived_seed(1, "simulated", 42) == derived_seed(1, "simulated", 43)
    False
    """
    name = "/".join(str(part) for part in (seed, *task))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *task: str | int) -> np.random.Generator:
    """The random generator of one task."""
    return np.random.default_rng(derived_seed(seed, *task))
