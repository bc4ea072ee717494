"""Save and load the trained encoder: its weights with their configuration and normalisation.

The state that training needs to resume is in a checkpoint of its own (`tidalkin.model.train`).
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError

from tidalkin import __version__, config
from tidalkin.atomic import atomic_path
from tidalkin.errors import TidalkinError, first_line
from tidalkin.model.heads import MAP_FEATURES, DebrisMap
from tidalkin.model.simsiam import Encoder
from tidalkin.model.stretch import channel_count
from tidalkin.seeds import derived_seed

ENCODER_VERSION = 3


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder that is ready to embed, in evaluation mode, on the CPU."""

    encoder: Encoder
    debris_map: DebrisMap | None
    """The head that maps faint light; None if the training had no injected light."""
    bands: tuple[str, ...]
    """Bands, in the order of the channels."""
    sigma: npt.NDArray[np.float32]
    """(band,) sky noise, nJy, the unit of the stretch."""
    stretch: config.Stretch
    settings: config.Network
    image_size: int
    """Side of the training images, pixels."""
    digest: str
    """Short digest of weights and configuration, which everything made with this encoder carries."""

    @property
    def n_features(self) -> int:
        """Number of features of an image, from the readout and the debris map."""
        return self.encoder.readout_dim + (MAP_FEATURES if self.debris_map is not None else 0)


def _content(
    encoder: Encoder,
    debris_map: DebrisMap | None,
    bands: Sequence[str],
    sigma: npt.NDArray[np.float32],
    stretch: config.Stretch,
    settings: config.Network,
    image_size: int,
    config_digest: str,
) -> bytes:
    """Serialise an encoder, to the same bytes for the same encoder."""
    meta = {
        "tidalkin_version": __version__,
        "config_digest": config_digest,
        "encoder": settings.model_dump(mode="json"),
        "stretch": stretch.model_dump(mode="json"),
        "bands": list(bands),
        "sigma": [float(value) for value in sigma],
        "image_size": image_size,
    }
    weights = {name: tensor.cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    where = debris_map.state_dict() if debris_map is not None else {}
    map_weights = {name: tensor.cpu().contiguous() for name, tensor in where.items()}
    # Not straight into the file, because torch.save stores the name of the file in it.
    buffer = io.BytesIO()
    torch.save(
        {
            "tidalkin_encoder": ENCODER_VERSION,
            "meta": json.dumps(meta, sort_keys=True),
            "state": weights,
            "debris_map": map_weights,
        },
        buffer,
    )
    return buffer.getvalue()


def save_encoder(
    path: str | Path,
    encoder: Encoder,
    *,
    debris_map: DebrisMap | None = None,
    bands: Sequence[str],
    sigma: npt.NDArray[np.float32],
    stretch: config.Stretch,
    settings: config.Network,
    image_size: int,
    config_digest: str,
) -> None:
    """Write an encoder file, byte-identical for equal arguments.

    Parameters
    ----------
    path : path
        The file to write or replace.
    encoder : Encoder
        The network.
    debris_map : DebrisMap, optional
        The head that maps faint light.
    bands : sequence of str
        Bands, in the order of the channels.
    sigma : (band,) float32
        Sky noise, nJy, the unit of the stretch.
    stretch, settings : config sections
        The stretch and the network's architecture.
    image_size : int
        Side of the training images, pixels.
    config_digest : str
        Digest of the configuration that determines the weights.

    Examples
    --------
    >>> sigma = np.ones(2, np.float32)
    >>> network = {"stretch": config.Stretch(), "settings": config.Network(width=8), "image_size": 32}
    >>> made = random_encoder(["g", "i"], sigma, **network, seed=1)
    >>> save_encoder("encoder.pt", made.encoder, bands=["g", "i"], sigma=sigma, **network, config_digest="")
    >>> load_encoder("encoder.pt").bands
    ('g', 'i')
    """
    content = _content(encoder, debris_map, bands, sigma, stretch, settings, image_size, config_digest)
    with atomic_path(path) as partial:
        partial.write_bytes(content)


def load_encoder(path: str | Path, expected: config.Network | None = None) -> LoadedEncoder:
    """Read an encoder.

    Parameters
    ----------
    path : path
        A file written by `save_encoder`.
    expected : config.Network, optional
        The architecture that the file must have.

    Raises
    ------
    TidalkinError
        If the file is missing, is not an encoder of this version, lacks weights, or has another architecture.

    Examples
    --------
    >>> load_encoder("no_such_run/encoder.pt")
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: no_such_run/encoder.pt: this encoder does not exist: make it again with
    `snakemake --forcerun train`
    """
    hint = "make it again with `snakemake --forcerun train`"
    if not Path(path).is_file():
        raise TidalkinError(f"{path}: this encoder does not exist: {hint}")
    content = Path(path).read_bytes()
    try:
        saved = torch_loaded(content)
    except ValueError as error:
        raise TidalkinError(f"{path}: {error}: {hint}") from None
    if not isinstance(saved, dict) or "tidalkin_encoder" not in saved:
        raise TidalkinError(f"{path}: is a torch checkpoint, but not an encoder of tidalkin: {hint}")
    if saved["tidalkin_encoder"] != ENCODER_VERSION:
        raise TidalkinError(
            f"{path}: is an encoder of version {saved['tidalkin_encoder']}, but this tidalkin reads version "
            f"{ENCODER_VERSION}: {hint}"
        )
    try:
        meta = json.loads(saved["meta"])
        settings = config.Network.model_validate(meta["encoder"])
        stretch = config.Stretch.model_validate(meta["stretch"])
        bands, sigma, image_size = tuple(meta["bands"]), np.array(meta["sigma"], np.float32), int(meta["image_size"])
        weights, map_weights = saved["state"], saved["debris_map"]
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise TidalkinError(f"{path}: is an incomplete encoder ({first_line(error)}): {hint}") from None
    if expected is not None and expected != settings:
        raise TidalkinError(f"{path}: was trained with another network ({_difference(settings, expected)}): {hint}")
    encoder = Encoder(channel_count(len(bands), stretch), settings)
    try:
        encoder.load_state_dict(weights)
        debris_map = DebrisMap(encoder.stage_channels) if map_weights else None
        if debris_map is not None:
            debris_map.load_state_dict(map_weights)
            debris_map.eval()
    except (RuntimeError, TypeError, AttributeError) as error:
        raise TidalkinError(f"{path}: its weights do not fit its architecture ({first_line(error)}): {hint}") from None
    return LoadedEncoder(encoder.eval(), debris_map, bands, sigma, stretch, settings, image_size, _sha256(content))


def random_encoder(
    bands: Sequence[str],
    sigma: npt.NDArray[np.float32],
    *,
    stretch: config.Stretch,
    settings: config.Network,
    image_size: int,
    seed: int,
) -> LoadedEncoder:
    """Make an encoder with random weights, a baseline with the same readout.

    Its residual branches do not start at zero as in training, because a network without them would be too easy to
    beat.

    Examples
    --------
    >>> sections = {"stretch": config.Stretch(), "settings": config.Network(width=8)}
    >>> loaded = random_encoder(["g", "i"], np.ones(2, np.float32), image_size=32, seed=1, **sections)
    >>> loaded.bands, loaded.debris_map
    (('g', 'i'), None)
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "random encoder"))
        encoder = Encoder(channel_count(len(bands), stretch), settings, zero_residual=False)
    content = _content(encoder, None, bands, sigma, stretch, settings, image_size, config_digest="")
    return LoadedEncoder(encoder.eval(), None, tuple(bands), sigma, stretch, settings, image_size, _sha256(content))


def torch_loaded(content: bytes) -> Any:
    """Unpickle the bytes of a ``torch.save`` on the CPU, as tensors and plain values only.

    Raises
    ------
    ValueError
        If the bytes are truncated, or were not written by torch.

    Examples
    --------
    >>> buffer = io.BytesIO()
    >>> torch.save({"bands": ["g", "i"]}, buffer)
    >>> torch_loaded(buffer.getvalue())
    {'bands': ['g', 'i']}
    """
    # Other bytes make torch's unpickler fail in many ways, which are hard to tell from real faults.
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise ValueError("is cut short or not a torch checkpoint")
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"is damaged or not a torch checkpoint ({first_line(error)})") from None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _difference(found: config.Network, expected: config.Network) -> str:
    """Describe the first key in which two architectures differ."""
    values: dict[str, Any] = expected.model_dump()
    key = next(key for key in values if getattr(found, key) != values[key])
    return f"encoder.{key} is {getattr(found, key)!r} there and {values[key]!r} in the configuration"
