"""Encoder and whitening of another run."""

import pytest

from surveys.encoded import BANDS, NETWORK, STRETCH
from tidalkin.embedding.reuse import reuse_encoder
from tidalkin.errors import TidalkinError


def test_an_encoder_is_taken_for_the_same_bands_stretch_and_network_only(run):
    taken = run / "taken.pt"
    ours = {"bands": BANDS, "stretch": STRETCH, "settings": NETWORK}
    reuse_encoder(run / "encoder.pt", taken, **ours)
    assert taken.read_bytes() == (run / "encoder.pt").read_bytes()
    for change, sentence in (
        ({"bands": ("r", "g")}, r"with cutouts\.bands \('g', 'r'\), but the configuration says \('r', 'g'\)"),
        ({"stretch": STRETCH.model_copy(update={"bin": 2})}, r"with stretch\.bin 1, but the configuration says 2"),
        (
            {"settings": NETWORK.model_copy(update={"width": 16})},
            r"with encoder\.width 8, but the configuration says 16: make it the same, or train an encoder",
        ),
    ):
        with pytest.raises(TidalkinError, match=f"encoder.pt: was trained {sentence}"):
            reuse_encoder(run / "encoder.pt", taken, **(ours | change))
