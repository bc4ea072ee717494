"""Inverted lists on disk."""

import faiss
import numpy as np
import pytest

from surveys.vectors import unit_vectors, write_shards
from tidalkin.config import Index
from tidalkin.errors import TidalkinError
from tidalkin.index.build import build_index
from tidalkin.index.query import open_index


@pytest.mark.parametrize("kind", ["IVF16,PQ8x4fs", "IVF16,PQ7x4fs"])
def test_lists_on_disk_give_the_results_of_lists_in_memory(tmp_path, kind):
    vectors = unit_vectors(3000, dimensions=16 if "PQ8" in kind else 14)
    build_index(
        write_shards(tmp_path / "embeddings", vectors), Index(kind=kind, queries=20), tmp_path / "index", seed=1
    )
    plain = faiss.index_factory(vectors.shape[1], kind.removesuffix("fs") + "np", faiss.METRIC_INNER_PRODUCT)
    plain.by_residual = False
    plain.train(vectors)
    plain.add(vectors)
    in_memory = faiss.IndexIVFPQFastScan(plain)
    in_memory.nprobe = 4
    opened = open_index(tmp_path / "index", tmp_path / "embeddings").index
    opened.nprobe = 4
    for one, other in zip(opened.search(vectors[:50], 20), in_memory.search(vectors[:50], 20), strict=True):
        np.testing.assert_array_equal(one, other)


def test_lists_that_are_cut_off_missing_or_of_another_index_are_refused(tmp_path):
    files = write_shards(tmp_path / "embeddings", unit_vectors(350))
    build_index(files, Index(kind="IVF4,PQ8x4fs", queries=5), tmp_path / "index", seed=1)
    lists = tmp_path / "index" / "lists.ivfdata"
    lists.write_bytes(whole := lists.read_bytes()[:-256])
    with pytest.raises(TidalkinError, match=rf"lists\.ivfdata: does not belong.*{len(whole)} bytes.*forcerun index"):
        open_index(tmp_path / "index", tmp_path / "embeddings")
    lists.unlink()
    with pytest.raises(TidalkinError, match=r"lists\.ivfdata: is missing.*forcerun index"):
        open_index(tmp_path / "index", tmp_path / "embeddings")
