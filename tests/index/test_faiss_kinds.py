"""The kinds of index: the choice of `auto`, and kinds that are refused."""

import faiss
import pytest

from surveys.vectors import unit_vectors, write_shards
from tidalkin.config import Index
from tidalkin.errors import TidalkinError
from tidalkin.index.build import build_index
from tidalkin.index.faiss_kinds import EXACT_UP_TO, choose_kind


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
