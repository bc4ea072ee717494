"""Configuration of the light that is injected into galaxies for training."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from tidalkin.config.base import Fraction, NonNegative, Positive, Range, Section, check_ordered


class StampFolder(Section):
    """The user's own FITS stamps, as one more kind of injected light."""

    folder: str | None = Field(
        None,
        description="Folder of FITS stamps of any size. A stamp has one image, painted with the drawn colour, or one "
        "image per band, named after the band and painted with the stamp's own colour. By default, there are "
        "no stamps.",
    )
    number: NonNegative = Field(1.0, description="Number of stamps, relative to clouds, filaments, edges and arcs.")
    pixel_scale_arcsec: Positive | None = Field(
        None, description="Pixel scale of the stamps, arcsec. By default, that of the WCS of each stamp."
    )


class Nuisances(Section):
    """Light and noise that must not count as debris."""

    companions: Fraction = Field(0.5, description="Share of the galaxies that get one to three companions or stars.")
    stars: Fraction = Field(0.4, description="Share of stars among these objects.")
    gradients: Fraction = Field(0.0, description="Share of the galaxies whose sky gets a gradient.")
    over_subtraction: Fraction = Field(
        0.5, description="Share of the galaxies around which too much sky is subtracted."
    )
    correlated_noise: Fraction = Field(
        0.0, description="Share of the galaxies that get noise correlated between neighbouring pixels."
    )

    @property
    def enabled(self) -> bool:
        """Whether anything is painted."""
        return max(self.companions, self.gradients, self.over_subtraction, self.correlated_noise) > 0


class Injection(Section):
    """Faint light injected into unlabelled galaxies (synthetic source injection), which the network learns to find."""

    fraction: Fraction = Field(0.5, description="Share of the galaxies of a batch that get injected light.")
    surface_brightness: Range | None = Field(
        None,
        description="Range of the light's surface brightness in i, mag/arcsec²: the mean over the brightest area that "
        "holds half of the light. By default, from 2.3 magnitudes brighter to 1.2 fainter than one sky sigma per "
        "pixel, which is 23.5 to 27.0 at the depth of HSC Wide. In deeper surveys it starts at 23.5 as well.",
    )
    color: float = Field(1.0, description="Mean colour of the light, g - i, mag.")
    color_scatter: NonNegative = Field(0.3, description="Standard deviation of that colour, mag.")
    clouds: NonNegative = Field(1.0, description="Relative number of clouds: smoothed noise above a threshold.")
    filaments: NonNegative = Field(1.0, description="Relative number of filaments: a line with a Gaussian profile.")
    edges: NonNegative = Field(1.0, description="Relative number of edges: a line with one sharp and one soft side.")
    arcs: NonNegative = Field(
        1.0,
        description="Relative number of arcs: lines that bend around the centre, half of them with a sharp outer side.",
    )
    distance_arcsec: Range = Field(
        (0.8, 5.5), description="Distance of filaments, edges and arcs from the centre, arcsec."
    )
    extent_arcsec: Range = Field(
        (0.7, 4.0), description="Extent (Gaussian sigma) of filaments, edges and arcs, arcsec."
    )
    inner_radius_arcsec: Range = Field((0.4, 2.0), description="Radius inside which the light fades out, arcsec.")
    outer_radius_arcsec: Positive = Field(9.0, description="Radius beyond which there is no light, arcsec.")
    scale_with_size: bool = Field(
        False,
        description="Whether to multiply inner radius, distance and extent by the galaxy's half-light radius, "
        "arcsec, measured from its image. The factor is between 0.5 and 2.",
    )
    over_subtraction: Fraction = Field(
        0.5,
        description="Share of the galaxies with light whose light loses a part with the sky, as when a pipeline fits "
        "the sky on small scales. The part is drawn for each band.",
    )
    stamps: StampFolder = StampFolder()
    nuisances: Nuisances = Nuisances()
    head_weight: NonNegative = Field(
        1.0, description="Weight in the loss of the head that predicts whether light was injected."
    )
    map_weight: NonNegative = Field(
        3.0, description="Weight in the loss of the dense head that predicts where light was injected."
    )

    @property
    def enabled(self) -> bool:
        """Whether anything is learned from injected light; without it, training is plain SimSiam."""
        return self.head_weight > 0 or self.map_weight > 0

    @model_validator(mode="after")
    def _values_agree(self) -> Self:
        for name in ("surface_brightness", "distance_arcsec", "extent_arcsec", "inner_radius_arcsec"):
            if getattr(self, name) is not None:
                check_ordered(name, getattr(self, name))
        stamps = self.stamps.number if self.stamps.folder else 0.0
        if self.enabled and not (self.clouds or self.filaments or self.edges or self.arcs or stamps):
            raise ValueError(
                "one of clouds, filaments, edges, arcs and stamps.number (with stamps.folder) must be positive: there "
                "is no light to inject"
            )
        return self
