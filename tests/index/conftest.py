"""An index that several test files open."""

import pytest

from surveys.vectors import unit_vectors, write_shards
from tidalkin.config import Index
from tidalkin.index.build import build_index


@pytest.fixture
def built(tmp_path):
    """350 vectors in 4 shards, and their exact index."""
    files = write_shards(tmp_path / "embeddings", unit_vectors(350))
    build_index(files, Index(queries=50), tmp_path / "index", seed=1)
    return tmp_path
