"""A galaxy that is not in the catalog, as a FITS cutout."""

import pytest

from surveys.small_run import CUTOUTS, write_outside
from tidalkin.config import Query
from tidalkin.errors import TidalkinError
from tidalkin.search.outside import read_outside_galaxy
from tidalkin.search.query import find_similar
from tidalkin.search.result import write_result


def test_a_cutout_of_a_known_galaxy_finds_that_galaxy_first(with_encoder, tmp_path):
    template = write_outside(with_encoder, tmp_path, 1042)
    found = find_similar(Query(cutout=template), with_encoder, k=3, radius_arcsec=2, debris_weight=1, cutouts=CUTOUTS)
    best = found.neighbours.to_pylist()[0]
    assert best["object_id"] == 1042
    assert best["similarity"] == pytest.approx(1, abs=1e-3)
    write_result(found, tmp_path)
    assert (tmp_path / "mosaic.png").stat().st_size > 10_000


def test_each_band_may_have_a_folder_of_its_own(with_encoder, tmp_path):
    write_outside(with_encoder, tmp_path, 1042)
    for band in "gri":
        (tmp_path / band).mkdir()
        (tmp_path / f"mine-{band}.fits").rename(tmp_path / band / "mine.fits")
    assert read_outside_galaxy(f"{tmp_path}/{{band}}/mine.fits", with_encoder, CUTOUTS).flux.shape[0] == 3


def test_a_cutout_that_lacks_a_band_or_pixels_is_refused_by_name(with_encoder, tmp_path):
    template = write_outside(with_encoder, tmp_path, 1042, size=6)
    with pytest.raises(TidalkinError, match=r"band g: has only 14 % good pixels"):
        read_outside_galaxy(template, with_encoder, CUTOUTS)
    template = write_outside(with_encoder, tmp_path, 1042)
    (tmp_path / "mine-r.fits").write_bytes(b"text")
    with pytest.raises(TidalkinError, match=r"band r is failed"):
        read_outside_galaxy(template, with_encoder, CUTOUTS)
    (tmp_path / "mine-r.fits").unlink()
    with pytest.raises(TidalkinError, match=r"band r is absent.*needs the bands g, r, i"):
        read_outside_galaxy(template, with_encoder, CUTOUTS)
