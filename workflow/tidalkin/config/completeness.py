"""Configuration of the completeness by injection and recovery."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tidalkin.config.base import NonNegative, Range, Section, check_ordered

FeatureKind = Literal["stream", "shell", "tail", "fan"]


class Completeness(Section):
    """Completeness of the ranking: tidal features injected into your own galaxies, and the fraction recovered."""

    enabled: bool = Field(
        True, description="Whether to measure the completeness, if training used injected light. Needs no labels."
    )
    galaxies: int = Field(
        400, ge=1, le=100_000, description="Galaxies that get a feature, drawn at random; all if there are fewer."
    )
    kinds: tuple[FeatureKind, ...] = Field(
        ("stream", "shell", "tail", "fan"), min_length=1, description="Kinds of features, in equal numbers."
    )
    surface_brightness: Range | None = Field(
        None,
        description="Range of the features' surface brightness in i, mag/arcsec²: the mean over the brightest area "
        "that holds half of the light. By default, from 2.3 magnitudes brighter to 2.2 fainter than one sky sigma per "
        "pixel, which is 23.5 to 28.0 at the depth of HSC Wide. In deeper surveys it starts at 23.5 as well.",
    )
    color: float = Field(1.0, ge=0.0, le=2.5, description="Mean colour of the features, g - i, mag.")
    color_scatter: NonNegative = Field(0.15, description="Standard deviation of that colour, mag.")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.surface_brightness is not None:
            check_ordered("surface_brightness", self.surface_brightness)
        if len(set(self.kinds)) < len(self.kinds):
            raise ValueError(f"kinds must name each kind once, not {list(self.kinds)}")
        return self
