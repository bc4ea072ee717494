"""Queries of an open index, and indexes that are refused."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from surveys.vectors import unit_vectors, write_shards
from tidalkin.config import Index
from tidalkin.errors import TidalkinError
from tidalkin.index.build import build_index
from tidalkin.index.query import open_index
from tidalkin.index.report import read_report
from tidalkin.index.tune import recall

MEMORY = Path(__file__).parents[1] / "programs" / "open_index_memory.py"


def test_a_flat_index_gives_the_result_of_a_matrix_product(built):
    opened = open_index(built / "index", built / "embeddings")
    vectors = unit_vectors(350)
    rows, similarity = opened.nearest(vectors[7], 5, exclude=[7])
    products = vectors @ vectors[7]
    products[7] = -2
    assert rows.tolist() == np.argsort(-products)[:5].tolist()
    np.testing.assert_allclose(similarity, np.sort(products)[::-1][:5], rtol=1e-5)
    assert opened.ids[rows[0]] == rows[0] + 1000
    assert opened.report.recall_at_10 == 1.0


@pytest.mark.parametrize("kind", ["IVF32,Flat", "HNSW8", "PCAR8,IVF32,Flat"])
def test_more_neighbours_than_a_query_looks_into_are_still_found(tmp_path, kind):
    vectors = unit_vectors(1000)
    build_index(
        write_shards(tmp_path / "embeddings", vectors), Index(kind=kind, queries=20), tmp_path / "index", seed=1
    )
    rows, _ = open_index(tmp_path / "index", tmp_path / "embeddings").nearest(vectors[0], 950)
    assert len(set(rows.tolist())) == 950


@pytest.mark.parametrize("kind", ["Flat", "IVF64,PQ8x4fs", "HNSW16", "PCAR12,IVF64,Flat"])
def test_a_query_that_reweights_dimensions_finds_the_results_of_an_exhaustive_search(tmp_path, kind):
    vectors = unit_vectors(5000)
    files = write_shards(tmp_path / "embeddings", vectors, shard_size=1000)
    build_index(files, Index(kind=kind, queries=50), tmp_path / "index", seed=1)
    opened = open_index(tmp_path / "index", tmp_path / "embeddings")
    importance = np.repeat([0.1, 1, 4], [5, 10, 1]).astype(np.float32)
    found, exact, by_neighbours = [], [], []
    for row in range(0, 5000, 100):
        direction = vectors[row] * importance
        exact.append(np.argsort(-vectors @ direction)[:30])
        found.append(opened.most_similar(direction, 30)[0])
        by_neighbours.append(opened.nearest(direction, 30)[0])
    assert recall(found, exact) >= 0.97
    assert recall(found, exact) >= recall(by_neighbours, exact)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the memory")
@pytest.mark.parametrize("kind", ["Flat", "IVF8,SQ8", "IVF8,PQ128x4fs", "HNSW8"])
def test_an_index_is_mapped_and_not_read(tmp_path, kind):
    files = write_shards(tmp_path / "embeddings", unit_vectors(40_000, 128), shard_size=20_000)
    build_index(files, Index(kind=kind, queries=1), tmp_path / "index", seed=1)
    assert sum((tmp_path / "index" / name).stat().st_size for name in ("index.faiss", "lists.ivfdata")) > 2.5e6
    command = [sys.executable, MEMORY, str(tmp_path / "index"), str(tmp_path / "embeddings")]
    assert float(subprocess.run(command, capture_output=True, check=True).stdout) < 1


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not list the mappings of a process")
def test_single_vectors_are_read_without_their_neighbours(built):
    opened = open_index(built / "index", built / "embeddings")
    np.testing.assert_array_equal(opened.scattered, opened.vectors)
    mappings = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
    flags = [
        mapping.split("VmFlags:")[1].split() for mapping in mappings if str(built / "index" / "vectors.npy") in mapping
    ]
    assert sorted("rr" in flag for flag in flags) == [False, True]  # rr: read in random order


def test_an_index_of_other_embeddings_is_refused(built):
    write_shards(built / "embeddings", unit_vectors(350, seed=2))  # same ids and shapes: trained again
    with pytest.raises(TidalkinError, match=r"was not built from the embeddings.*forcerun index"):
        open_index(built / "index", built / "embeddings")


def test_an_index_of_other_objects_is_refused(built):
    write_shards(built / "embeddings", unit_vectors(350), first_id=5)
    with pytest.raises(TidalkinError, match="was not built from the embeddings"):
        open_index(built / "index", built / "embeddings")


def test_files_of_two_indexes_are_refused_together(built):
    files = write_shards(built / "other", unit_vectors(200))
    build_index(files, Index(queries=5), built / "other_index", seed=1)
    shutil.copy(built / "other_index" / "index.faiss", built / "index" / "index.faiss")
    with pytest.raises(TidalkinError, match=r"index\.faiss has 200 vectors, ids\.npy 350 and vectors\.npy 350"):
        open_index(built / "index", built / "embeddings")


def test_damaged_files_are_refused_by_name(built):
    for name in ("ids.npy", "vectors.npy"):
        (built / "index" / name).rename(built / "hidden")
        with pytest.raises(TidalkinError, match=rf"{name}: cannot be read.*forcerun index"):
            open_index(built / "index", built / "embeddings")
        (built / "hidden").rename(built / "index" / name)
    whole = (built / "index" / "index.faiss").read_bytes()
    (built / "index" / "index.faiss").write_bytes(whole[:100])
    with pytest.raises(TidalkinError, match=r"index\.faiss: cannot be read"):
        open_index(built / "index", built / "embeddings")
    (built / "index" / "report.json").write_text("{}")
    with pytest.raises(TidalkinError, match=r"report\.json: is damaged.*--forcerun index"):
        read_report(built / "index")
    (built / "index" / "report.json").unlink()
    with pytest.raises(TidalkinError, match="no index is here"):
        open_index(built / "index", built / "embeddings")
