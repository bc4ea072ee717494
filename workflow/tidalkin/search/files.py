"""The files of a run that a search reads."""

from __future__ import annotations

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

    @classmethod
    def of(cls, run: str | Path) -> RunFiles:
        """The files where the workflow puts them, below ``results/<run>``."""
        run = Path(run)
        return cls(
            run / "catalog.parquet",
            run / "embeddings",
            run / "index",
            run / "images.zarr",
            run / "encoder" / "encoder.pt",
            run / "whitening.npz",
        )
