"""Derive one random generator per task from the seed of the configuration."""

from __future__ import annotations

import hashlib

import numpy as np


def derived_seed(seed: int, *task: str | int) -> int:
    """Derive a 63-bit seed for one task, independent of all other tasks' seeds.

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
    """Return the random generator of one task.

    Examples
    --------
    >>> generator(1, "whitening").random() == generator(1, "whitening").random()
    True
    """
    return np.random.default_rng(derived_seed(seed, *task))
