"""Configuration of the image store and of the stretch."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tidalkin.config.base import Positive, Section


class Images(Section):
    """The Zarr store: every galaxy on the same grid of pixels."""

    size: int = Field(128, ge=8, le=1024, description="Side of the stored images, pixels.")
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
        1,
        ge=1,
        le=8,
        description="Pixels averaged along each axis first; 2 shows fainter light at a quarter of the cost.",
    )
    softening_sigma: Positive = Field(3.0, description="Softening, in units of the sky sigma of a stored pixel.")
    maximum: Positive | None = Field(None, description="Cap on the stretched value; none for no cap.")
    asymmetry: bool = Field(
        False,
        description="Add a channel: the light of all bands minus the same after half a turn about the centre. "
        "Needs `augment.jitter_pixels: 0`.",
    )
