"""Find the galaxies with most debris, with no example, and read debris maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tidalkin.embedding.whitening import load_whitening
from tidalkin.errors import TidalkinError
from tidalkin.index.vectors import load_array
from tidalkin.search.files import RunFiles
from tidalkin.search.objects import open_parquet


class Ranked(NamedTuple):
    """A galaxy of the ranking of one of several runs."""

    run: int
    object_id: int
    debris_score: float


def most_debris(runs: Sequence[RunFiles], k: int) -> tuple[list[Ranked], int]:
    """Return the galaxies with the highest debris score.

    Parameters
    ----------
    runs : sequence of RunFiles
        One run, or several that share encoder and whitening, so that their scores are comparable.
    k : int
        Number of galaxies.

    Returns
    -------
    galaxies : list of Ranked
        Highest score first; equal ones in the order of the runs and of their rankings.
    n_ranked : int
        Number of galaxies in all rankings.

    Raises
    ------
    TidalkinError
        If training had no injected light, or a ranking cannot be read.

    Examples
    --------
    >>> galaxies, n_ranked = most_debris([RunFiles.of("results/demo")], k=3)
    >>> len(galaxies), n_ranked, galaxies[0].debris_score > galaxies[1].debris_score
    (3, 60, True)
    """
    found: list[Ranked] = []
    n_ranked = 0
    for number, run in enumerate(runs):
        if not load_whitening(run.whitening).has_debris_score:
            raise TidalkinError(
                f"{run.whitening}: has no debris score, since training had no injected light: name examples, or train "
                "with injection.head_weight or injection.map_weight above 0"
            )
        first, n_galaxies = _first_rows(run.ranking, k)
        scores = zip(first["object_id"].to_pylist(), first["debris_score"].to_pylist(), strict=True)
        found += [Ranked(number, object_id, score) for object_id, score in scores]
        n_ranked += n_galaxies
    return sorted(found, key=lambda galaxy: -galaxy.debris_score)[:k], n_ranked


def _first_rows(ranking: Path, k: int) -> tuple[pa.Table, int]:
    """Read the first rows of a ranking, and count all."""
    columns = ["object_id", "debris_score"]
    with open_parquet(ranking, "rank") as file:
        batch = next(file.iter_batches(batch_size=k, columns=columns), None)
        schema = pa.schema([file.schema_arrow.field(name) for name in columns])
        return pa.Table.from_batches([] if batch is None else [batch], schema), file.metadata.num_rows


def maps_of(
    object_ids: Sequence[int], debris_maps: Sequence[str | Path], ids: Sequence[str | Path]
) -> dict[int, npt.NDArray[np.float32]]:
    """Read the debris maps (cell, cell) of some objects.

    Parameters
    ----------
    object_ids : sequence of int
        The objects; those without a map are left out.
    debris_maps, ids : sequence of path
        The shards' maps (object, cell, cell) and object_ids (object,), in the same order.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/00000.maps.npy", np.array([[[0.5]], [[3.0]]], np.float16))
    ...     np.save(f"{folder}/00000.ids.npy", np.array([7, 8]))
    ...     maps_of([8, 9], [f"{folder}/00000.maps.npy"], [f"{folder}/00000.ids.npy"])
    {8: array([[3.]], dtype=float32)}
    """
    wanted = np.array(object_ids, np.int64)
    found: dict[int, npt.NDArray[np.float32]] = {}
    for map_file, id_file in zip(debris_maps, ids, strict=True):
        shard_ids = load_array(Path(id_file))
        rows = np.flatnonzero(np.isin(shard_ids, wanted))
        if len(rows):
            maps = load_array(Path(map_file))
            found |= {int(shard_ids[row]): np.asarray(maps[row], np.float32) for row in rows}
    return found
