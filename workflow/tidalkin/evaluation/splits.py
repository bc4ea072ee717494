"""Split the labelled galaxies into a pool and a test half.

Examples and training labels come from the pool only. The test half is ranked, and never used as a query. The splits
depend only on the galaxies and the number of the repeat, so they are the same for every method and every seed of a
run. Training labels are nested, so that the first 10 are among the first 20.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tidalkin.evaluation.labels import Integers, Labels
from tidalkin.seeds import generator


@dataclass(frozen=True)
class Split:
    """Rows of one repeat, with no galaxy in both pool and test half."""

    pool_positive: Integers
    """Galaxies with a feature, for queries and training, in random order."""
    pool_negative: Integers
    """Galaxies without one, for training, in random order."""
    test: Integers
    """Galaxies to rank, ascending."""

    @property
    def pool(self) -> Integers:
        """All galaxies of the pool."""
        return np.concatenate([self.pool_positive, self.pool_negative])

    def training(self, n_labels: int) -> Integers:
        """Return the first ``n_labels`` of the pool, in its proportion of classes.

        There is at least one galaxy with and one without a feature.
        """
        share = self.pool_positive.size / self.pool.size
        n_positive = min(max(round(n_labels * share), 1), n_labels - 1)
        return np.concatenate([self.pool_positive[:n_positive], self.pool_negative[: n_labels - n_positive]])


def split(labels: Labels, repeat: int) -> Split:
    """Split each kind of galaxy in half, the same for all methods and seeds.

    The odd galaxy of a kind goes to the test, so that all repeats have halves of the same size.

    Examples
    --------
    >>> kind = np.array(["none", "none", "shell", "shell", "shell"], object)
    >>> parts = split(Labels(np.arange(5), kind, kind != "none"), repeat=0)
    >>> parts.pool_positive.size, parts.pool_negative.size, parts.test.size
    (1, 1, 3)
    """
    random = generator(0, "evaluation split", repeat)
    pool: list[Integers] = []
    test: list[Integers] = []
    for kind in np.unique(labels.kind):
        rows = random.permutation(np.flatnonzero(labels.kind == kind))
        pool.append(rows[: rows.size // 2])
        test.append(rows[rows.size // 2 :])
    mixed = random.permutation(np.concatenate(pool))
    positive = labels.positive[mixed]
    return Split(mixed[positive], mixed[~positive], np.sort(np.concatenate(test)))
