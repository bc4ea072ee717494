"""Labelled galaxies with made-up vectors, and figures of their evaluation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tidalkin import config
from tidalkin.evaluation.methods import MethodVectors

FEW = config.EvaluationSettings(probe_labels=(5, 20), repeats=3, set_size=5)


def catalog_of(n_positive: int, n_negative: int) -> pd.DataFrame:
    """Make a catalog with kinds in turn and ids neither sorted nor contiguous."""
    n = n_positive + n_negative
    kinds = ["stream", "shell", "tail"]
    label = [kinds[row % 3] for row in range(n_positive)] + ["none"] * n_negative
    brightness = [24 + 4 * row / n_positive for row in range(n_positive)] + [np.nan] * n_negative
    object_id = np.random.default_rng(5).permutation(n) * 11 + 7
    return pd.DataFrame({"object_id": object_id, "label": label, "tidal_surface_brightness": brightness})


def vectors_of(catalog: pd.DataFrame, signal: float, seed: int = 0, dimensions: int = 16) -> MethodVectors:
    vectors = np.random.default_rng(seed).normal(size=(len(catalog), dimensions))
    vectors[:, 0] += signal * np.where(catalog["label"] == "none", -1, 1)
    return MethodVectors(catalog["object_id"].to_numpy(), vectors)


def figure(table: pd.DataFrame, task: str, metric: str, method: str = "encoder") -> pd.Series:
    rows = table[(table["method"] == method) & (table["task"] == task) & (table["metric"] == metric)]
    return rows.loc[rows["n_labels"].idxmax()]
