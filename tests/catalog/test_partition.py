"""Tests of the division of a run into chunks, shards and parts."""

from __future__ import annotations

import pytest

from tidalkin.catalog.partition import chunk_names, parts_of, shard_names


@pytest.mark.parametrize(("objects", "size", "names"), [(1, 5, ["00000"]), (10, 5, ["00000", "00001"]), (0, 5, [])])
def test_names_count_chunks_and_shards(objects, size, names):
    assert chunk_names(objects, size) == shard_names(objects, size) == names


def test_the_last_part_of_the_index_may_have_fewer_shards():
    assert parts_of(["a", "b", "c"], 2) == {"00000": ["a", "b"], "00001": ["c"]}
