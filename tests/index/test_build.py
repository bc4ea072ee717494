"""Building an index: the same bytes in one job and in many, whatever the threads."""

import resource

import faiss
import numpy as np
import pytest

from surveys.vectors import build_in_jobs, unit_vectors, write_shards
from tidalkin.config import Index
from tidalkin.errors import TidalkinError
from tidalkin.index.build import build_index, merge_parts, train_index
from tidalkin.index.query import open_index

FILES = ("index.faiss", "lists.ivfdata", "ids.npy", "vectors.npy", "report.json")


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


def test_float16_shards_and_empty_shards_are_indexed(tmp_path):
    files = write_shards(tmp_path / "embeddings", unit_vectors(250), dtype=np.float16)
    np.save(files[1], np.zeros((0, 16), np.float16))
    np.save(files[1].with_suffix(".ids.npy"), np.zeros(0, np.int64))
    report = build_index(files, Index(queries=10), tmp_path / "index", seed=1)
    assert report.n == 150
    assert open_index(tmp_path / "index", tmp_path / "embeddings").ids[100] == 1200


@pytest.mark.parametrize(("kind", "largest_file"), [("Flat", 10_000), ("HNSW16", 70_000), ("IVF8,Flat", 70_000)])
def test_a_full_disk_ends_in_one_sentence_and_leaves_no_half_file(tmp_path, kind, largest_file):
    files = write_shards(tmp_path / "embeddings", unit_vectors(1000))  # 64 kB of vectors
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, hard))
    try:
        with pytest.raises(TidalkinError, match=r"cannot be written .*: free some space and run again") as refusal:
            build_index(files, Index(kind=kind, queries=5), tmp_path / "index", seed=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(tmp_path / "index") in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "index" / "report.json").exists()
    assert not [*(tmp_path / "index").glob(".*")]
