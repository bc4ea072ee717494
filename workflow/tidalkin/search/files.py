"""The files of a run that a search reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFiles:
    """The files of a run that a search reads."""

    catalog: Path
    embeddings: Path
    """Folder of the shards."""
    index: Path
    """Folder of the index."""
    images: Path
    encoder: Path
    whitening: Path
    ranking: Path
    """All galaxies by debris score; only where training had injected light."""

    @classmethod
    def of(cls, run: str | Path) -> RunFiles:
        """Name the files where the workflow puts them, below ``results/<run>``."""
        run = Path(run)
        return cls(
            run / "catalog.parquet",
            run / "embeddings",
            run / "index",
            run / "images.zarr",
            run / "encoder" / "encoder.pt",
            run / "whitening.npz",
            run / "ranking.parquet",
        )


def names_of(runs: Sequence[RunFiles]) -> list[str]:
    """Return the names of runs, or their folders where two names are equal.

    Examples
    --------
    >>> names_of([RunFiles.of("results/north"), RunFiles.of("results/south")])
    ['north', 'south']
    """
    folders = [run.catalog.parent for run in runs]
    names = [folder.name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]
