"""Take the encoder or the whitening of another run, as configured in the section `reuse`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tidalkin import config
from tidalkin.atomic import atomic_path
from tidalkin.embedding.whitening import load_whitening
from tidalkin.errors import TidalkinError
from tidalkin.model.checkpoint import load_encoder


def reuse_encoder(
    source: str | Path,
    output: str | Path,
    *,
    bands: Sequence[str],
    stretch: config.Stretch,
    settings: config.Network,
) -> None:
    """Copy the encoder of another run with the same bands, stretch and network.

    Parameters
    ----------
    source, output : path
        The other run's encoder, and the file to write.
    bands : sequence of str
        Bands of this run's images.
    stretch, settings : config sections
        The stretch and the network of this run's configuration.

    Raises
    ------
    TidalkinError
        If the encoder cannot be read, or its bands, stretch or network differ.

    Examples
    --------
    >>> from tidalkin import open_run
    >>> settings = open_run("results/demo").settings
    >>> same = {"bands": settings.cutouts.bands, "stretch": settings.stretch, "settings": settings.encoder}
    >>> reuse_encoder("results/demo/encoder/encoder.pt", "encoder.pt", **same)
    >>> load_encoder("encoder.pt").bands
    ('g', 'r', 'i', 'z', 'y')
    """
    loaded = load_encoder(source)
    compared = [
        ("cutouts.bands", loaded.bands, tuple(bands)),
        *((f"stretch.{key}", value, getattr(stretch, key)) for key, value in loaded.stretch),
        *((f"encoder.{key}", value, getattr(settings, key)) for key, value in loaded.settings),
    ]
    _take(source, output, compared, "trained", "train an encoder (without `reuse.encoder`)")


def reuse_whitening(source: str | Path, output: str | Path, *, encoder: str, settings: config.Embedding) -> None:
    """Copy the whitening of another run with the same encoder and dimensions.

    Parameters
    ----------
    source, output : path
        The other run's whitening, and the file to write.
    encoder : str
        Digest of this run's encoder.
    settings : config.Embedding
        The section of this run's configuration.

    Raises
    ------
    TidalkinError
        If the whitening cannot be read, belongs to another encoder, or has another number of dimensions.

    Examples
    --------
    >>> from tidalkin import open_run
    >>> encoder = load_encoder("results/demo/encoder/encoder.pt")
    >>> settings = open_run("results/demo").settings
    >>> reuse_whitening(
    ...     "results/demo/whitening.npz", "whitening.npz", encoder=encoder.digest, settings=settings.embedding
    ... )
    >>> load_whitening("whitening.npz").dimensions
    8
    """
    white = load_whitening(source)
    white.check(encoder, source)
    compared = [(f"embedding.{key}", getattr(white, key), getattr(settings, key)) for key in ("dimensions",)]
    _take(source, output, compared, "fitted", "fit a whitening (without `reuse.whitening`)")


def _take(
    source: str | Path, output: str | Path, compared: Iterable[tuple[str, object, object]], made: str, instead: str
) -> None:
    """Copy a file if every compared key has the same value there and here.

    Each of ``compared`` is the name of a key, its value in the file and its value in the configuration.
    """
    for key, its, ours in compared:
        if its != ours:
            raise TidalkinError(
                f"{source}: was {made} with {key} {its!r}, but the configuration says {ours!r}: make it the same, or "
                f"{instead}"
            )
    with atomic_path(output) as partial:
        partial.write_bytes(Path(source).read_bytes())
