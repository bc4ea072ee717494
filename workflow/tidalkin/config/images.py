"""Configuration of the image store and of the stretch."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tidalkin.config.base import Positive, Section

SMALLEST_IMAGE = 8
"""Side of the smallest images, pixels."""


class Images(Section):
    """The Zarr store: every galaxy on the same grid of pixels."""

    size: int = Field(
        96,
        ge=SMALLEST_IMAGE,
        le=1024,
        description="Side of the stored images, pixels. By default, that of `cutouts.size_arcsec`.",
    )
    shard_size: int = Field(
        512, ge=1, le=100_000, description="Galaxies per shard, which is one file, one task and one embed job."
    )
    chunk_size: int = Field(32, ge=1, description="Galaxies per chunk of a shard. One read decodes a chunk.")
    bad_mask_planes: tuple[str, ...] = Field(
        ("BAD", "SAT", "NO_DATA"), description="Mask planes whose pixels count as missing (MP_<name> in the header)."
    )
    bad_mask_bits: tuple[int, ...] = Field(
        (), description="Bits that count as missing if a mask does not name its planes; 0, 1, 8 for HSC."
    )

    @model_validator(mode="after")
    def _shards_hold_whole_chunks(self) -> Self:
        if self.shard_size % self.chunk_size:
            raise ValueError(f"shard_size {self.shard_size} must be a multiple of chunk_size {self.chunk_size}")
        return self


class Stretch(Section):
    """The stretch of flux to network input: arcsinh(flux / (softening_sigma * sigma_band)), capped."""

    bin: int = Field(
        3,
        ge=1,
        le=8,
        description="Pixels to average along each axis first; 3 shows fainter light at a ninth of the cost.",
    )
    softening_sigma: Positive = Field(0.5, description="Softening, in units of the sky sigma of a stored pixel.")
    maximum: Positive | None = Field(
        6.0,
        description="Cap on the stretched value; none for no cap. In HSC Wide, 6 is 20.8 mag/arcsec² in i. A low cap "
        "makes bright discs flat and hides their arms.",
    )
    asymmetry: bool = Field(
        True,
        description="Add a channel: the light of all bands minus the same light rotated by 180° about the centre. "
        "Needs `augment.jitter_pixels: 0`.",
    )
