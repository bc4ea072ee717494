"""The sample that the whitening is fitted on."""

import io
import logging

import numpy as np

from surveys.encoded import SETTINGS, fit
from tidalkin.embedding.whitening import load_whitening
from tidalkin.model.checkpoint import load_encoder


def test_the_views_change_the_whitening_and_the_batch_size_does_not(run):
    settings = SETTINGS.model_copy(update={"whitening_views": 3})
    fit(run)
    without = (run / "whitening.npz").read_bytes()
    fit(run, settings)
    with_views = (run / "whitening.npz").read_bytes()
    assert with_views != without
    fit(run, settings, embed_batch_size=3)
    again = load_whitening(run / "whitening.npz")
    np.testing.assert_allclose(again.mean, np.load(io.BytesIO(with_views))["mean"], rtol=1e-4, atol=1e-5)


def test_the_whitening_is_written_and_read_byte_identical(run):
    fit(run)
    first = (run / "whitening.npz").read_bytes()
    fit(run)
    assert (run / "whitening.npz").read_bytes() == first
    again = load_whitening(run / "whitening.npz")
    assert again.encoder == load_encoder(run / "encoder.pt").digest
    assert again.components.shape == (4, again.mean.size)


def test_the_whitening_is_fitted_on_as_many_good_galaxies_as_asked_for(run, caplog):
    with caplog.at_level(logging.INFO):
        fit(run, SETTINGS.model_copy(update={"whitening_sample": 17}))
        fit(run, SETTINGS.model_copy(update={"whitening_sample": 500}))
    counts = [record.getMessage() for record in caplog.records if "features of" in record.getMessage()]
    assert "whitening: features of 17 galaxies" in counts
    assert counts[-1] == "whitening: features of 18 galaxies"  # all but the two without an image
