"""A simulated survey of 72 galaxies, and readers of Snakemake's plans for it."""

from __future__ import annotations

import copy
import re

TINY = {
    "run": "tiny",
    "catalog": {"source": "simulated", "chunk_size": 24},
    "cutouts": {
        "source": "simulated",
        "size_arcsec": 8.064,
        "simulated": {"galaxies": 72, "tidal_fraction": 0.5},
    },
    "images": {"size": 40, "shard_size": 32, "chunk_size": 16},
    "stretch": {"bin": 1, "asymmetry": False, "softening_sigma": 1.0, "maximum": 3.0},
    "augment": {"crop": 32, "jitter_pixels": 2, "noise_sigma": [0.0, 1.0]},
    "encoder": {"width": 8, "stem": "standard", "projector_size": 32, "predictor_size": 8},
    "training": {"epochs": 2, "batch_size": 24, "collapse_below": 0.0},
    "embedding": {"dimensions": 16, "symmetries": 2},
    "search": {
        "k": 8,
        "queries": {"first": {"like": [1]}, "several": {"like": [2, 3], "unlike": [4]}, "most": {"debris": True}},
    },
    "completeness": {"galaxies": 16},
    "evaluation": {"repeats": 2, "probe_labels": [8], "set_size": 4, "sample": 48},
}


def changed(config: dict, **sections: dict) -> dict:
    """Return the configuration with some sections' values replaced."""
    new = copy.deepcopy(config)
    for section, values in sections.items():
        new[section].update(values)
    return new


def planned_jobs(output: str) -> dict[str, int]:
    """Return the number of jobs of each rule in Snakemake's job table, without `all`."""
    table = output.split("Job stats:")[-1]
    jobs = {name: int(number) for name, number in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}
    return {name: number for name, number in jobs.items() if name not in ("all", "total")}


def planned(output: str) -> set[str]:
    """Return the rules in Snakemake's job table, without `all`."""
    return set(planned_jobs(output))
