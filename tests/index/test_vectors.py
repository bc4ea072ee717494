"""Shards of vectors: rows, blocks, and damaged files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surveys.vectors import unit_vectors, write_shards
from tidalkin.config import Index
from tidalkin.errors import TidalkinError
from tidalkin.index.build import build_index
from tidalkin.index.vectors import Embeddings


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


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_a_vector_that_is_not_of_length_one_is_refused_by_object(tmp_path, bad):
    vectors = unit_vectors(250)
    vectors[123] = bad
    files = write_shards(tmp_path / "embeddings", vectors)
    with pytest.raises(TidalkinError, match=r"00001\.npy.*object 1123"):
        build_index(files, Index(), tmp_path / "index", seed=1)
