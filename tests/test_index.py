"""The index: exactness, recall, determinism, and what it refuses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidalkin.catalog.partition import parts_of
from tidalkin.config import Index
from tidalkin.errors import TidalkinError
from tidalkin.index.build import add_shards, build_index, merge_parts, train_index
from tidalkin.index.faiss_kinds import EXACT_UP_TO, choose_kind
from tidalkin.index.query import open_index
from tidalkin.index.report import RECALL_AIM, read_report
from tidalkin.index.tune import exact_neighbours, recall
from tidalkin.index.vectors import Embeddings

FILES = ("index.faiss", "lists.ivfdata", "ids.npy", "vectors.npy", "report.json")


def unit_vectors(n, dimensions=16, seed=1):
    vectors = np.random.default_rng(seed).standard_normal((n, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_shards(folder, vectors, shard_size=100, first_id=1000, dtype=np.float32):
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for start in range(0, len(vectors), shard_size):
        files.append(folder / f"{start // shard_size:05d}.npy")
        part = vectors[start : start + shard_size]
        np.save(files[-1], part.astype(dtype))
        np.save(files[-1].with_suffix(".ids.npy"), np.arange(start, start + len(part)) + first_id)
    return files


@pytest.fixture
def built(tmp_path):
    """350 vectors in 4 shards, and their exact index."""
    files = write_shards(tmp_path / "embeddings", unit_vectors(350))
    build_index(files, Index(queries=50), tmp_path / "index", seed=1)
    return tmp_path


def test_a_flat_index_answers_as_a_plain_matrix_product(built):
    opened = open_index(built / "index", built / "embeddings")
    vectors = unit_vectors(350)
    rows, similarity = opened.nearest(vectors[7], 5, exclude=[7])
    products = vectors @ vectors[7]
    products[7] = -2
    assert rows.tolist() == np.argsort(-products)[:5].tolist()
    np.testing.assert_allclose(similarity, np.sort(products)[::-1][:5], rtol=1e-5)
    assert opened.ids[rows[0]] == rows[0] + 1000
    assert opened.report.recall_at_10 == 1.0


@pytest.mark.parametrize("kind", ["IVF8,PQ8x4fs", "HNSW16", "IVF4,SQ8", "PCAR8,Flat", "PCAR8,IVF8,Flat"])
def test_an_approximate_index_reaches_the_aim_with_exact_similarities(tmp_path, kind):
    vectors = unit_vectors(2000)
    files = write_shards(tmp_path / "embeddings", vectors, shard_size=600)
    report = build_index(files, Index(kind=kind, queries=100), tmp_path / "index", seed=1)
    assert report.recall_at_10 >= RECALL_AIM - 0.03  # measured on other queries than it was tuned on
    opened = open_index(tmp_path / "index", tmp_path / "embeddings")
    rows, similarity = opened.nearest(vectors[3], 10)
    assert rows[0] == 3
    np.testing.assert_allclose(similarity, vectors[rows] @ vectors[3], atol=1e-6)


@pytest.mark.parametrize("kind", ["Flat", "IVF8,PQ8x4fs", "HNSW16"])
def test_an_index_built_again_is_byte_identical_whatever_the_threads(tmp_path, kind):
    files = write_shards(tmp_path / "embeddings", unit_vectors(2000), shard_size=600)
    threads = faiss.omp_get_max_threads()
    for name, count in (("first", 1), ("second", 2)):
        faiss.omp_set_num_threads(count)
        build_index(files, Index(kind=kind, queries=20), tmp_path / name, seed=1)
    faiss.omp_set_num_threads(threads)
    for file in FILES:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def build_in_jobs(files, settings, folder):
    """As many jobs do it; returns the parts."""
    train_index(files, settings, folder / "trained.faiss", seed=1)
    parts = []
    for name, shards in parts_of(files, settings.shards_per_part).items():
        parts.append(folder / f"{name}.faiss")
        add_shards(folder / "trained.faiss", shards, parts[-1])
    merge_parts(folder / "trained.faiss", parts, files, settings, folder, seed=1)
    return parts


@pytest.mark.parametrize("kind", ["IVF8,PQ8x4fs", "IVF8,PQ8x4np", "PCAR8,IVF8,Flat", "IVF4,SQ8", "Flat"])
def test_an_index_is_byte_identical_whatever_the_number_of_jobs(tmp_path, kind):
    files = write_shards(tmp_path / "embeddings", unit_vectors(2000), shard_size=60)
    build_index(files, Index(kind=kind, queries=20), tmp_path / "one", seed=1)
    for shards_per_part, jobs in ((8, 5), (16, 3)):
        settings = Index(kind=kind, queries=20, shards_per_part=shards_per_part)
        assert len(build_in_jobs(files, settings, tmp_path / f"in {jobs}")) == jobs
    for name in ("one", "in 3", "in 5"):
        for file in FILES:
            assert (tmp_path / "one" / file).read_bytes() == (tmp_path / name / file).read_bytes()


@pytest.mark.parametrize("kind", ["HNSW16", "PCAR8,IVF8,PQ4x4fs"])
def test_a_kind_that_cannot_be_joined_is_refused_before_any_job_adds(tmp_path, kind):
    files = write_shards(tmp_path / "embeddings", unit_vectors(500))
    with pytest.raises(TidalkinError, match=r"index\.kind.*cannot be built in several jobs.*set index.*to 5 or more"):
        train_index(files, Index(kind=kind), tmp_path / "trained.faiss", seed=1)
    assert not (tmp_path / "trained.faiss").exists()


def test_parts_of_other_shards_and_damaged_parts_are_refused_by_name(tmp_path):
    files = write_shards(tmp_path / "embeddings", unit_vectors(350), shard_size=35)
    settings = Index(kind="IVF8,Flat", queries=5, shards_per_part=8)
    parts = build_in_jobs(files, settings, tmp_path)
    with pytest.raises(TidalkinError, match=r"1\.faiss: has 70 vectors, but its shards have 280"):
        merge_parts(tmp_path / "trained.faiss", parts[::-1], files, settings, tmp_path, seed=1)
    parts[0].write_bytes(parts[0].read_bytes()[:1000])
    with pytest.raises(TidalkinError, match=r"0\.faiss: cannot be read"):
        merge_parts(tmp_path / "trained.faiss", parts, files, settings, tmp_path, seed=1)


MEGABYTE_IN_MEMORY = """
import sys
from tidalkin.index.query import open_index

def megabytes():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024

open_index(sys.argv[1], sys.argv[2])
before = megabytes()
index = open_index(sys.argv[1], sys.argv[2])
print(megabytes() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the memory")
@pytest.mark.parametrize("kind", ["Flat", "IVF8,SQ8", "IVF8,PQ128x4fs", "HNSW8"])
def test_an_index_is_mapped_and_not_read(tmp_path, kind):
    files = write_shards(tmp_path / "embeddings", unit_vectors(40_000, 128), shard_size=20_000)
    build_index(files, Index(kind=kind, queries=1), tmp_path / "index", seed=1)
    assert sum((tmp_path / "index" / name).stat().st_size for name in ("index.faiss", "lists.ivfdata")) > 2.5e6
    command = [sys.executable, "-c", MEGABYTE_IN_MEMORY, str(tmp_path / "index"), str(tmp_path / "embeddings")]
    assert float(subprocess.run(command, capture_output=True, check=True).stdout) < 1


def test_float16_shards_and_empty_shards_are_indexed(tmp_path):
    files = write_shards(tmp_path / "embeddings", unit_vectors(250), dtype=np.float16)
    np.save(files[1], np.zeros((0, 16), np.float16))
    np.save(files[1].with_suffix(".ids.npy"), np.zeros(0, np.int64))
    report = build_index(files, Index(queries=10), tmp_path / "index", seed=1)
    assert report.n == 150
    assert open_index(tmp_path / "index", tmp_path / "embeddings").ids[100] == 1200


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(0, 7), min_size=1, max_size=6), block=st.integers(1, 9), data=st.data())
def test_rows_and_blocks_are_those_of_the_shards_end_to_end(tmp_path_factory, lengths, block, data):
    vectors = unit_vectors(sum(lengths) + 1, dimensions=3)[: sum(lengths)]
    folder = tmp_path_factory.mktemp("shards")
    files, start = [], 0
    for shard, length in enumerate(lengths):
        files.append(folder / f"{shard}.npy")
        np.save(files[-1], vectors[start : start + length])
        np.save(files[-1].with_suffix(".ids.npy"), np.arange(start, start + length))
        start += length
    embeddings = Embeddings(files)
    assert len(embeddings) == len(vectors)
    pieces = [piece for _, piece in embeddings.blocks(block)]
    np.testing.assert_array_equal(np.concatenate([vectors[:0], *pieces]), vectors)
    if len(vectors):
        rows = np.array(data.draw(st.lists(st.integers(0, len(vectors) - 1), max_size=10)), np.int64)
        np.testing.assert_array_equal(embeddings.rows(rows), vectors[rows])


def test_exact_neighbours_do_not_depend_on_the_blocks(tmp_path, monkeypatch):
    embeddings = Embeddings(write_shards(tmp_path, unit_vectors(300)))
    rows = np.array([0, 150, 299])
    whole = exact_neighbours(embeddings, rows, 10)
    blocks = embeddings.blocks
    monkeypatch.setattr(embeddings, "blocks", lambda: blocks(37))
    for one, other in zip(whole, exact_neighbours(embeddings, rows, 10), strict=True):
        np.testing.assert_array_equal(one, other)


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


def test_auto_is_exact_for_small_and_compressed_for_large():
    assert choose_kind(EXACT_UP_TO, 128) == "Flat"
    assert choose_kind(1_000_000, 128) == "IVF4096,PQ64x4fs"
    assert choose_kind(10_000_000, 128) == "IVF16384,PQ64x4fs"
    for dimensions in (7, 16):
        faiss.index_factory(dimensions, choose_kind(200_000, dimensions), faiss.METRIC_INNER_PRODUCT)


@pytest.mark.parametrize("kind", ["nonsense", "", "IVF4096,Flat", "PQ7"])
def test_a_kind_that_does_not_work_is_refused_by_its_key(tmp_path, kind):
    files = write_shards(tmp_path / "embeddings", unit_vectors(100))
    with pytest.raises(TidalkinError, match=r"index\.kind.*does not work") as refusal:
        build_index(files, Index(kind=kind), tmp_path / "index", seed=1)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "index" / "index.faiss").exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_a_vector_that_is_not_of_length_one_is_refused_by_object(tmp_path, bad):
    vectors = unit_vectors(250)
    vectors[123] = bad
    files = write_shards(tmp_path / "embeddings", vectors)
    with pytest.raises(TidalkinError, match=r"00001\.npy.*object 1123"):
        build_index(files, Index(), tmp_path / "index", seed=1)


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


@pytest.mark.parametrize("kind", ["IVF16,PQ8x4fs", "IVF16,PQ7x4fs"])
def test_lists_on_disk_answer_as_those_that_faiss_packs_in_memory(tmp_path, kind):
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


def test_a_report_with_the_keys_of_an_older_version_is_refused_with_the_command_that_helps(built):
    path = built / "index" / "report.json"
    older = json.loads(path.read_text())
    older["breadth"], older["candidates"] = older.pop("search_depth"), older.pop("n_rerank")
    path.write_text(json.dumps(older))
    with pytest.raises(TidalkinError, match=r"report\.json: is damaged or of another version.*--forcerun index"):
        open_index(built / "index", built / "embeddings")


def test_missing_or_unequal_shards_are_refused_by_name(tmp_path):
    files = write_shards(tmp_path, unit_vectors(200))
    np.save(files[1].with_suffix(".ids.npy"), np.arange(3))
    with pytest.raises(TidalkinError, match=r"00001\.npy: has shape \(100, 16\)"):
        Embeddings(files)
    files[1].with_suffix(".ids.npy").unlink()
    with pytest.raises(TidalkinError, match=r"00001\.ids\.npy: cannot be read"):
        Embeddings(files)
    with pytest.raises(TidalkinError, match="no embeddings"):
        Embeddings([])
