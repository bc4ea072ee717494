"""Configuration of views, network, training and embedding."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from tidalkin.config.base import Fraction, NonNegative, Positive, Range, Section, check_ordered


class Augment(Section):
    """The random views of a galaxy.

    A value of 0 or [0, 0], or a zoom of [1, 1], switches a change off.
    """

    crop: int = Field(96, ge=8, description="Side of a view, pixels. By default, that of the images.")
    jitter_pixels: NonNegative = Field(0.0, description="Largest shift of the centre, pixels.")
    rotate: bool = Field(True, description="Rotate by any angle (and flip); if false, only flips and quarter turns.")
    zoom: Range = Field((0.8, 1.25), description="Range of the magnification.")
    shear: Annotated[float, Field(ge=0.0, le=0.7)] = Field(
        0.35, description="Largest shear, along any axis, so that views of a disc differ in inclination."
    )
    blur_arcsec: Range = Field(
        (0.0, 0.0), description="Range of the FWHM added in quadrature to the PSF, drawn per band, arcsec."
    )
    noise_sigma: Range = Field((0.0, 1.0), description="Range of the added noise, in units of the image's sky sigma.")
    extinction_ebv: Range = Field((0.0, 0.0), description="Range of the change in E(B-V), mag.")
    brightness: NonNegative = Field(1.0, description="Largest natural logarithm of the common brightness factor.")
    color: NonNegative = Field(0.3, description="Standard deviation of the natural logarithm of each band's factor.")
    discs: int = Field(3, ge=0, le=50, description="Number of discs to blank, away from the centre.")
    disc_radius_arcsec: Range = Field((0.6, 1.6), description="Range of the discs' radii, arcsec.")
    disc_distance_arcsec: NonNegative = Field(
        2.0, description="Smallest distance of a disc's edge from the centre, arcsec."
    )

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        for name in ("zoom", "blur_arcsec", "noise_sigma", "extinction_ebv", "disc_radius_arcsec"):
            check_ordered(name, getattr(self, name))
        if self.zoom[0] <= 0:
            raise ValueError("zoom must be positive")
        if self.blur_arcsec[0] < 0 or self.noise_sigma[0] < 0 or self.disc_radius_arcsec[0] < 0:
            raise ValueError("blur_arcsec, noise_sigma and disc_radius_arcsec cannot be negative")
        return self


class Network(Section):
    """The network (Chen & He 2021, arXiv:2011.10566)."""

    architecture: Literal["resnet18", "resnet50"] = Field("resnet18", description="torchvision's network.")
    # Under 8 channels, torch's strided 1 x 1 convolutions corrupt memory on some processors (seen with 2.13 and AVX2).
    stages: Literal[3, 4] = Field(
        3,
        description="Residual stages; 4 is the published network. The fourth adds two fifths to the cost, and sees "
        "only 2 x 2 cells of an image of 32 x 32 pixels.",
    )
    width: int = Field(32, ge=8, le=256, description="Channels of the first stage; 64 is the published network.")
    stem: Literal["standard", "small"] = Field(
        "small",
        description="`standard`: 7x7, stride 2, pooling; `small`: 3x3, stride 2, no pooling (four times the cost).",
    )
    projector_size: int = Field(512, ge=8, le=16384, description="Width of the projector.")
    predictor_size: int = Field(128, ge=2, le=16384, description="Width of the predictor's bottleneck.")

    @property
    def smallest_view(self) -> int:
        """The smallest view, pixels, of which more than one pixel reaches the last stage."""
        stem = {"standard": 4, "small": 2}[self.stem]
        return stem * 2 ** (self.stages - 2) + 1

    @model_validator(mode="after")
    def _predictor_is_a_bottleneck(self) -> Self:
        if self.predictor_size >= self.projector_size:
            raise ValueError(
                f"predictor_size {self.predictor_size} must be smaller than projector_size {self.projector_size}"
            )
        return self


class Training(Section):
    """The training of the network."""

    epochs: int = Field(40, ge=1, le=10_000, description="Passes over the images.")
    batch_size: int = Field(64, ge=2, le=65_536, description="Galaxies per step, over all processes.")
    optimizer: Literal["adamw", "sgd"] = Field(
        "adamw", description="`adamw` needs far fewer epochs; `sgd` is the optimizer of the SimSiam paper."
    )
    base_learning_rate: Positive = Field(0.02, description="Rate for a batch of 256; scaled with the batch size.")
    warmup_epochs: NonNegative = Field(1.0, description="Epochs of linear warm-up; at most half of all epochs.")
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(0.9, description="Momentum of `sgd`.")
    weight_decay: NonNegative = Field(0.02, description="Weight decay.")
    minimum_good_fraction: Fraction = Field(
        0.5, description="Fraction of good pixels that a galaxy needs in every band to be used for training."
    )
    shuffle_window: int = Field(
        4096,
        ge=1,
        description="Galaxies that are shuffled together, in whole shards; streaming holds two such windows.",
    )
    collapse_below: Fraction = Field(
        0.1, description="Stop when the standard deviation of the normalised projection times sqrt(dim) is below this."
    )


class Reuse(Section):
    """Parts of another run, used in place of new ones.

    The vectors of both runs can then be compared.
    """

    encoder: str | None = Field(
        None,
        description="The other run's `encoder/encoder.pt`. Nothing is trained. Bands, stretch and network must agree.",
    )
    whitening: str | None = Field(
        None, description="The other run's `whitening.npz`. The section `embedding` must agree."
    )

    @model_validator(mode="after")
    def _whitening_has_its_encoder(self) -> Self:
        if self.whitening and not self.encoder:
            raise ValueError("`whitening` needs `encoder`: that of the run which the whitening is from")
        return self


class Embedding(Section):
    """Vectors of images: features of all stages, averaged over symmetries, whitened, of length one."""

    dimensions: int = Field(
        24,
        ge=2,
        le=4096,
        description="Dimensions of a vector; the last is the debris score, if training used injected light.",
    )
    symmetries: Literal[1, 2, 4, 8] = Field(4, description="Number of flips and quarter turns to average over.")
    crop: int | None = Field(
        None, ge=8, description="Side of the central part to embed, pixels; none for the whole image."
    )
    whitening_sample: int = Field(20_000, ge=16, description="Largest number of galaxies to fit the whitening on.")
    whitening_views: int = Field(
        4,
        ge=0,
        le=100,
        description="Random views per galaxy of that sample. The directions kept are those in which galaxies differ "
        "most, compared with the views of one galaxy. With 0, views are not used.",
    )
    minimum_good_fraction: Fraction = Field(
        0.5,
        description="Fraction of good pixels that a galaxy needs in every band to get a vector; the log lists the "
        "rest.",
    )
    dtype: Literal["float32", "float16"] = Field("float32", description="Type of the stored vectors.")

    @field_validator("whitening_views")
    @classmethod
    def _views_can_differ(cls, views: int) -> int:
        if views == 1:
            raise ValueError("one view cannot be compared with another: use 2 or more, or 0 for none")
        return views
