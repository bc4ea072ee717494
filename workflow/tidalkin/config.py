"""The typed configuration: every key, its default, its unit and its bounds.

This is the one place where a bad value is refused. The Snakefile loads the configuration with
`load_settings` before it plans anything; a rule hands whole sections (`settings.images.model_dump()`) to its
script as ``params``, and the script validates them again into the same classes.

Sections up to `evaluation` hold what changes results. `compute` holds what must not: devices, workers, memory. It is
therefore never a rule's ``params``, and changing it re-runs nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from string import Formatter
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tidalkin.errors import TidalkinError
from tidalkin.partition import SHARDS_ADDED_TOGETHER

PIXEL_SCALE_ARCSEC = 0.168  # HSC coadds: Aihara et al. 2022, PASJ 74, 247


Band = Literal["g", "r", "i", "z", "y"]
BANDS: tuple[Band, ...] = ("g", "r", "i", "z", "y")
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Range = tuple[float, float]


def _ordered(name: str, bounds: Range) -> None:
    if not bounds[0] <= bounds[1]:
        raise ValueError(f"{name} must be [low, high] with low <= high, not {list(bounds)}")


class Section(BaseModel):
    """A part of the configuration: immutable, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `true` for a number, which pydantic takes for 1; but not 1e-3, which YAML takes for text."""
        annotation = str(cls.model_fields[str(info.field_name)].annotation)
        values = value if isinstance(value, list | tuple) else [value]
        if re.search(r"\b(int|float)\b", annotation) and any(isinstance(one, bool) for one in values):
            raise ValueError("must be a number, not true or false")
        return value


# --- catalog and cutouts -----------------------------------------------------------------------------------------


class CatalogServer(Section):
    """HSC's catalog server (CAS), with `source: hsc_sql`. Credentials come from the environment or ~/.netrc."""

    url: str = Field(
        "https://hsc-release.mtk.nao.ac.jp/datasearch/api/catalog_jobs", description="Base address of the server."
    )
    maximum_rows: int = Field(
        2_000_000, ge=1, description="A query that finds more rows than this is refused before it is sent in full."
    )
    skip_syntax_check: bool = Field(False, description="Skip the server's syntax check, which can time out (HTTP 502).")
    attempts: int = Field(8, ge=1, le=100, description="Tries of one question to the server.")
    backoff_seconds: Positive = Field(10.0, description="First wait after a fault, seconds; it doubles with each try.")
    backoff_maximum_seconds: Positive = Field(600.0, description="Longest such wait, seconds.")
    timeout_seconds: Positive = Field(300.0, description="How long the server may stay silent.")
    poll_seconds: Positive = Field(300.0, description="Longest pause between two looks at the job's status, seconds.")
    wait_seconds: Positive = Field(86_400.0, description="How long the job may take before it is given up, seconds.")


class Catalog(Section):
    """Which galaxies."""

    source: Literal["simulated", "file", "hsc_sql"] = Field(
        "simulated", description="`simulated` invents them, `file` reads `path`, `hsc_sql` asks HSC's catalog server."
    )
    path: str | None = Field(
        None,
        description="With `source: file`: a CSV, FITS, VOTable or Parquet file, or the folder of the Multimodal "
        "Universe's HSC set, which has its own catalog.",
    )
    query: str | None = Field(None, description="File with the SQL, with `source: hsc_sql`.")
    rerun: Literal["pdr1", "pdr2", "pdr2-citus", "pdr3", "pdr3-citus", "pdr3-citus-columnar"] = Field(
        "pdr3", description="Release the SQL is sent to, with `source: hsc_sql`."
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Your column for each of ours, where the usual aliases do not find it: `{object_id: MY_ID}`.",
    )
    chunk_size: int = Field(500, ge=1, le=100_000, description="Galaxies per chunk: one download job, one tar.")
    server: CatalogServer = CatalogServer()

    def content(self) -> dict[str, Any]:
        """What decides the catalog's rows, apart from the file they are read from."""
        return self.model_dump(exclude={"path", "query", "server"})

    @model_validator(mode="after")
    def _source_has_what_it_needs(self) -> Self:
        if self.source == "file" and not self.path:
            raise ValueError("source `file` needs `path`: name your catalog file")
        if self.source == "hsc_sql" and not self.query:
            raise ValueError("source `hsc_sql` needs `query`: name the file that holds the SQL")
        return self


class SimulatedSurvey(Section):
    """The offline survey: galaxies drawn by GalSim at the depth and seeing of HSC-SSP Wide."""

    galaxies: int = Field(2000, ge=1, le=10_000_000, description="How many galaxies.")
    tidal_fraction: Fraction = Field(0.25, description="Share of galaxies with a stream, a shell or tails.")
    tidal_surface_brightness: Range = Field(
        (24.0, 28.0), description="Range of the features' surface brightness in i, mag/arcsec²."
    )
    magnitude: Range = Field((17.5, 20.5), description="Range of the galaxies' total i magnitude.")
    half_light_radius_arcsec: Range = Field((0.8, 2.5), description="Range of the galaxies' half-light radii, arcsec.")
    neighbours_per_arcmin2: NonNegative = Field(25.0, description="Galaxies in the field, per square arcminute.")
    stars_per_arcmin2: NonNegative = Field(4.0, description="Stars in the field, per square arcminute.")

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        for name in ("tidal_surface_brightness", "magnitude", "half_light_radius_arcsec"):
            _ordered(name, getattr(self, name))
        if self.half_light_radius_arcsec[0] <= 0:
            raise ValueError("half_light_radius_arcsec must be positive")
        return self


class Folder(Section):
    """FITS files you already have."""

    path: str = Field("", description="The folder they are in.")
    template: str = Field(
        "{object_id}-HSC-{BAND}.fits",
        description="File name of one cutout, below `path`. Fields: `{object_id}`, `{band}` (g), `{BAND}` (G). "
        "Without a band field: one multi-extension file per object, its HDUs named by `hdu_template`.",
    )
    hdu_template: str = Field(
        "{BAND}", description="Name of a band's image HDU, where one file holds all bands. Fields as in `template`."
    )

    @model_validator(mode="after")
    def _template_names_the_object(self) -> Self:
        for key in ("template", "hdu_template"):
            template = getattr(self, key)
            try:
                fields = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
            except ValueError as error:
                raise ValueError(f"{key} {template!r} cannot be filled in: {error}") from None
            unknown = sorted(fields - {"object_id", "band", "BAND"})
            if unknown:
                raise ValueError(f"{key} has the unknown field {{{unknown[0]}}}: use object_id, band or BAND")
        if "{object_id}" not in self.template:
            raise ValueError(f"template {self.template!r} must contain {{object_id}}")
        return self


class Transport(Section):
    """How a server is asked. Changing these fetches nothing again."""

    connections: int = Field(4, ge=1, le=8, description="Connections at once, over all jobs; servers want few.")
    attempts: int = Field(8, ge=1, le=100, description="Tries in a row that bring nothing before one gives up.")
    backoff_seconds: Positive = Field(30.0, description="First wait after a fault, seconds; it doubles with each try.")
    backoff_maximum_seconds: Positive = Field(1800.0, description="Longest such wait, seconds.")
    timeout_seconds: Positive = Field(300.0, description="How long the server may stay silent.")


class HscDasTransport(Transport):
    """How the cutout service is asked. Changing these fetches nothing again."""

    timeout_seconds: Positive = Field(3600.0, description="How long the server may stay silent.")
    lines_per_request: int = Field(990, ge=1, le=1000, description="Cutouts asked for in one request.")
    bytes_per_second: Positive | None = Field(None, description="Upper limit of the rate, for all jobs together.")


class HscPatchesTransport(Transport):
    """How patches are asked for and kept while they are cut. Changing these fetches nothing again."""

    cache: str = Field("", description="Folder the patches are kept in while they are cut; empty: the user's cache.")
    cache_gigabytes: Positive = Field(
        20.0, description="Size of that folder; what was used longest ago goes first. One patch has 0.2 in each band."
    )


class Hips2fitsTransport(Transport):
    """How the hips2fits service is asked. Changing these fetches nothing again."""

    attempts: int = Field(6, ge=1, le=100, description="Tries of one image before it counts as failed.")
    backoff_seconds: Positive = Field(2.0, description="First wait after a fault, seconds; it doubles with each try.")
    backoff_maximum_seconds: Positive = Field(120.0, description="Longest such wait, seconds.")
    timeout_seconds: Positive = Field(60.0, description="How long the service may stay silent.")


class HscDas(Section):
    """HSC's cutout service (DAS). Credentials come from the environment or ~/.netrc, never from here."""

    url: str = Field(
        "https://hsc-release.mtk.nao.ac.jp/das_cutout/pdr3", description="Base address of the cutout service."
    )
    rerun: str = Field("pdr3_wide", description="Rerun: `pdr3_wide`, `pdr3_dud_rev`, `pdr2_wide`, ...")
    image_type: Literal["coadd", "coadd/bg"] = Field(
        "coadd", description="`coadd` has the sky subtracted locally; `coadd/bg` keeps faint wide light."
    )
    mask: bool = Field(True, description="Ask for the mask plane.")
    variance: bool = Field(True, description="Ask for the variance plane.")
    transport: HscDasTransport = HscDasTransport()


class HscPatches(Section):
    """Whole coadd patches of HSC, cut here; for dense samples. The catalog needs the columns `tract` and `patch`."""

    url: str = Field(
        "https://hsc-release.mtk.nao.ac.jp/archive/filetree", description="Base address of the archive's file tree."
    )
    rerun: str = Field("pdr3_wide", description="Rerun: `pdr3_wide`, `pdr3_dud_rev`, `pdr2_wide`, ...")
    transport: HscPatchesTransport = HscPatchesTransport()


class Hips2fits(Section):
    """CDS's hips2fits service: resampled images of HSC, without an account, without mask and variance."""

    url: str = Field(
        "https://alasky.cds.unistra.fr/hips-image-services/hips2fits", description="Address of the service."
    )
    hips: str = Field("CDS/P/HSC/DR2/wide/{band}", description="Name of the HiPS. Fields: `{band}` (g), `{BAND}` (G).")
    zero_point: float | None = Field(
        None,
        ge=0.0,
        le=40.0,
        description="AB magnitude of one count in the HiPS. The service does not say; HSC's coadds have 27.0. Needed.",
    )
    transport: Hips2fitsTransport = Hips2fitsTransport()

    @model_validator(mode="after")
    def _hips_names_the_band(self) -> Self:
        try:
            fields = {field for _, field, _, _ in Formatter().parse(self.hips) if field is not None}
        except ValueError as error:
            raise ValueError(f"hips {self.hips!r} cannot be filled in: {error}") from None
        if not fields or fields - {"band", "BAND"}:
            raise ValueError(f"hips {self.hips!r} must contain {{band}} or {{BAND}}, and no other field")
        return self


class MmuHsc(Section):
    """A local copy of the Multimodal Universe's HSC set: 160 pixels a side, with masks and variance."""

    path: str = Field("", description="The folder that holds `healpix=*/*.hdf5`.")
    zero_point: float = Field(
        27.0,
        ge=0.0,
        le=40.0,
        description="AB magnitude of one count; HSC's coadds, whose pixels the set keeps, have 27.",
    )


class Cutouts(Section):
    """Where the images come from."""

    source: Literal["simulated", "folder", "hsc_das", "hsc_patches", "hips2fits", "mmu_hsc"] = Field(
        "simulated", description="Which source."
    )
    bands: tuple[Band, ...] = Field(BANDS, min_length=1, description="Bands, in the order of the network's channels.")
    size_arcsec: Positive = Field(
        21.504, le=300.0, description="Side of the cutouts to draw or ask for, arcsec (128 pixels are 21.504)."
    )
    simulated: SimulatedSurvey = SimulatedSurvey()
    folder: Folder = Folder()
    hsc_das: HscDas = HscDas()
    hsc_patches: HscPatches = HscPatches()
    hips2fits: Hips2fits = Hips2fits()
    mmu_hsc: MmuHsc = MmuHsc()

    @model_validator(mode="after")
    def _bands_are_distinct_and_source_is_complete(self) -> Self:
        if len(set(self.bands)) != len(self.bands):
            raise ValueError(f"bands {list(self.bands)} names a band twice")
        if self.source == "folder" and not self.folder.path:
            raise ValueError("source `folder` needs `folder.path`: name the folder with your FITS files")
        if self.source == "mmu_hsc" and not self.mmu_hsc.path:
            raise ValueError("source `mmu_hsc` needs `mmu_hsc.path`: name the folder that holds healpix=*/*.hdf5")
        if self.source == "hips2fits" and self.hips2fits.zero_point is None:
            raise ValueError(
                "source `hips2fits` needs `hips2fits.zero_point`, since the service does not say what its pixels are: "
                "27.0 for HSC's coadds (docs/hsc.md tells how to check it)"
            )
        if self.size_pixels < 8:
            raise ValueError(f"size_arcsec {self.size_arcsec} is under 8 pixels of {PIXEL_SCALE_ARCSEC} arcsec")
        return self

    def content(self) -> dict[str, Any]:
        """What decides the bytes of a cutout: not how many there are, nor how they are transported."""
        chosen = getattr(self, self.source).model_dump(exclude={"transport", "galaxies"})
        content = {"source": self.source, "bands": self.bands, self.source: chosen}
        return content if self.source in ("folder", "mmu_hsc") else content | {"size_arcsec": self.size_arcsec}

    @property
    def size_pixels(self) -> int:
        """Side of the cutouts in pixels."""
        return round(self.size_arcsec / PIXEL_SCALE_ARCSEC)


# --- images ------------------------------------------------------------------------------------------------------


class Images(Section):
    """The Zarr store: every galaxy on the same grid of pixels."""

    size: int = Field(128, ge=8, le=1024, description="Side of the stored images, pixels.")
    shard_size: int = Field(512, ge=1, le=100_000, description="Galaxies per shard: one file, one task, one embed job.")
    chunk_size: int = Field(32, ge=1, description="Galaxies per chunk inside a shard: what one read decodes.")
    bad_mask_planes: tuple[str, ...] = Field(
        ("BAD", "SAT", "NO_DATA"), description="Mask planes whose pixels count as missing (MP_<name> in the header)."
    )
    bad_mask_bits: tuple[int, ...] = Field(
        (), description="Bit numbers that count as missing where a mask does not name its planes; 0, 1, 8 in HSC's."
    )

    @model_validator(mode="after")
    def _shards_hold_whole_chunks(self) -> Self:
        if self.shard_size % self.chunk_size:
            raise ValueError(f"shard_size {self.shard_size} must be a multiple of chunk_size {self.chunk_size}")
        return self


# --- what the network sees ---------------------------------------------------------------------------------------


class Stretch(Section):
    """arcsinh(flux / (softening_sigma * sigma_band)), capped: what is a bright core, what is a faint stream."""

    bin: int = Field(
        1,
        ge=1,
        le=8,
        description="Pixels averaged along each axis first: 2 shows fainter light at a quarter of the cost.",
    )
    softening_sigma: Positive = Field(3.0, description="Softening, in units of the sky sigma of a stored pixel.")
    maximum: Positive | None = Field(None, description="Cap on the stretched value; none: no cap.")
    asymmetry: bool = Field(
        False,
        description="Adds a channel: what half a turn about the galaxy does not repeat of the light of all bands; "
        "needs `augment.jitter_pixels: 0`.",
    )


class Augment(Section):
    """The random views between which SimSiam must see no difference; 0, [0, 0] or a zoom of [1, 1] switches one off."""

    crop: int = Field(96, ge=8, description="Side of a view, pixels.")
    jitter_pixels: NonNegative = Field(13.0, description="Largest shift of the centre, pixels.")
    rotate: bool = Field(False, description="Rotate by any angle (and flip); false: only flips and quarter turns.")
    zoom: Range = Field((1.0, 1.0), description="Range of the magnification.")
    shear: Annotated[float, Field(ge=0.0, le=0.7)] = Field(
        0.0, description="Largest shear, along any axis: views of a disc differ in inclination; 1 would flatten it."
    )
    blur_arcsec: Range = Field(
        (0.0, 0.0), description="Range of the FWHM added in quadrature to the PSF, drawn per band, arcsec."
    )
    noise_sigma: Range = Field((1.0, 3.0), description="Range of the added noise, in units of the image's sky sigma.")
    extinction_ebv: Range = Field((0.0, 0.0), description="Range of the change of E(B-V), mag.")
    brightness: NonNegative = Field(0.0, description="Largest natural logarithm of the common brightness factor.")
    color: NonNegative = Field(0.0, description="Standard deviation of the natural logarithm of each band's factor.")
    discs: int = Field(0, ge=0, le=50, description="Discs blanked away from the centre.")
    disc_radius_arcsec: Range = Field((0.5, 1.5), description="Range of the discs' radii, arcsec.")
    disc_distance_arcsec: NonNegative = Field(3.0, description="Discs' edges stay this far from the centre, arcsec.")

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        for name in ("zoom", "blur_arcsec", "noise_sigma", "extinction_ebv", "disc_radius_arcsec"):
            _ordered(name, getattr(self, name))
        if self.zoom[0] <= 0:
            raise ValueError("zoom must be positive")
        if self.blur_arcsec[0] < 0 or self.noise_sigma[0] < 0 or self.disc_radius_arcsec[0] < 0:
            raise ValueError("blur_arcsec, noise_sigma and disc_radius_arcsec cannot be negative")
        return self


# --- network and training ----------------------------------------------------------------------------------------


class Encoder(Section):
    """The network (Chen & He 2021, arXiv:2011.10566)."""

    architecture: Literal["resnet18", "resnet50"] = Field("resnet18", description="torchvision's network.")
    width: int = Field(64, ge=4, le=256, description="Channels of the first stage; 64 is the published network.")
    stem: Literal["standard", "small"] = Field(
        "standard",
        description="`standard`: 7x7, stride 2, pooling; `small`: 3x3, stride 2, no pooling (four times the cost).",
    )
    projector_size: int = Field(2048, ge=8, le=16384, description="Width of the projector.")
    predictor_size: int = Field(512, ge=2, le=16384, description="Width of the predictor's bottleneck.")

    @property
    def smallest_view(self) -> int:
        """Least side of a view, pixels, of which the last stage is given more than one pixel."""
        return {"standard": 16, "small": 8}[self.stem] + 1

    @model_validator(mode="after")
    def _predictor_is_a_bottleneck(self) -> Self:
        if self.predictor_size >= self.projector_size:
            raise ValueError(
                f"predictor_size {self.predictor_size} must be smaller than projector_size {self.projector_size}"
            )
        return self


class Training(Section):
    """SGD as published for SimSiam."""

    epochs: int = Field(25, ge=1, le=10_000, description="Passes over the images.")
    batch_size: int = Field(256, ge=2, le=65_536, description="Galaxies per step, over all processes.")
    base_learning_rate: Positive = Field(0.05, description="Rate for a batch of 256; scaled with the batch size.")
    warmup_epochs: NonNegative = Field(0.0, description="Epochs of linear warm-up.")
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(0.9, description="SGD momentum.")
    weight_decay: NonNegative = Field(1e-4, description="L2 penalty.")
    minimum_good_fraction: Fraction = Field(
        0.5, description="Galaxies with fewer good pixels in some band are not trained on."
    )
    shuffle_window: int = Field(
        4096, ge=1, description="Galaxies of whole shards that are shuffled together; streaming holds two windows."
    )
    collapse_below: Fraction = Field(
        0.1, description="Stop when the standard deviation of the normalised projection times sqrt(dim) is below this."
    )

    @model_validator(mode="after")
    def _warmup_ends_before_training(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs {self.warmup_epochs} must be smaller than epochs {self.epochs}")
        return self


class Reuse(Section):
    """Parts of another run, taken in place of making them: then the vectors of both runs can be compared."""

    encoder: str | None = Field(
        None,
        description="The other run's `encoder/encoder.pt`; nothing is trained. Bands, stretch and network must agree.",
    )
    whitening: str | None = Field(None, description="Its `whitening.npz`; the section `embedding` must agree.")

    @model_validator(mode="after")
    def _whitening_has_its_encoder(self) -> Self:
        if self.whitening and not self.encoder:
            raise ValueError("`whitening` needs `encoder`: that of the run which the whitening is from")
        return self


# --- embedding, index, search ------------------------------------------------------------------------------------


class Embedding(Section):
    """Images to vectors: features of all stages, averaged over symmetries, whitened, of length one."""

    dimensions: int = Field(128, ge=2, le=4096, description="Dimensions of a vector.")
    symmetries: Literal[1, 2, 4, 8] = Field(8, description="Flips and quarter turns averaged over.")
    crop: int | None = Field(None, ge=8, description="Side of the central part that is embedded, pixels; none: all.")
    whitening_sample: int = Field(20_000, ge=16, description="Most galaxies the whitening is fitted on.")
    whitening_views: int = Field(
        0,
        ge=0,
        le=100,
        description="Random views per galaxy of that sample: kept are the directions in which views of a galaxy agree "
        "and galaxies differ; 0: the directions in which galaxies differ most.",
    )

    host_directions: int = Field(
        0,
        ge=0,
        le=4096,
        description="How many of the first directions describe the host galaxy, and not what is around it: "
        "`search.weights.host` is theirs, and `unusualness` does not look at them.",
    )
    unusualness: NonNegative = Field(
        0.0,
        description="Weight of one more dimension, counted in `dimensions`: how far a galaxy is from its nearest "
        "neighbours; 0: none.",
    )
    minimum_good_fraction: Fraction = Field(
        0.5, description="Galaxies with fewer good pixels in some band are left out (and listed)."
    )
    dtype: Literal["float32", "float16"] = Field("float32", description="Type of the stored vectors.")

    @field_validator("whitening_views")
    @classmethod
    def _views_can_differ(cls, views: int) -> int:
        if views == 1:
            raise ValueError("one view has nothing to agree with: 2 or more, or 0 for none")
        return views

    @model_validator(mode="after")
    def _some_directions_are_not_the_hosts(self) -> Self:
        others = self.dimensions - (self.unusualness > 0)
        if self.host_directions >= others:
            raise ValueError(
                f"host_directions {self.host_directions} must be smaller than the {others} of `dimensions` that are "
                "directions"
            )
        return self


class Index(Section):
    """The FAISS index."""

    kind: str = Field("auto", description="`auto`, or any FAISS index_factory string for inner product.")
    queries: int = Field(200, ge=1, le=100_000, description="Queries for the report of recall@10 against exact search.")
    shards_per_part: int = Field(
        1024,
        ge=SHARDS_ADDED_TOGETHER,
        multiple_of=SHARDS_ADDED_TOGETHER,
        description="With more shards than this, each job adds so many of them (a multiple of 8), and one joins the "
        "parts; otherwise one job does all. The index is the same.",
    )

    def content(self) -> dict[str, Any]:
        """What decides the index."""
        return self.model_dump(exclude={"shards_per_part"})


class Query(Section):
    """A question: galaxies (by id, position or FITS cutout) to look like, and galaxies not to look like."""

    like: tuple[int, ...] = Field((), description="object_ids of the examples.")
    unlike: tuple[int, ...] = Field((), description="object_ids of the counter-examples.")
    position: tuple[float, float] | None = Field(None, description="Right ascension and declination, degrees, ICRS.")
    cutout: str | None = Field(
        None, description="A multi-band FITS file, or a file name with {band} or {BAND}, of a galaxy of your own."
    )

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not (self.like or self.position or self.cutout):
            raise ValueError("a query needs `like` (object_ids), `position` ([ra, dec]) or `cutout` (a FITS file)")
        both = set(self.like) & set(self.unlike)
        if both:
            raise ValueError(f"object {min(both)} is both in `like` and in `unlike`")
        if self.position and not (0 <= self.position[0] < 360 and -90 <= self.position[1] <= 90):
            raise ValueError(f"position {list(self.position)} must be [ra in 0..360, dec in -90..90] degrees")
        return self


class Weights(Section):
    """How much some dimensions of a vector count in a comparison, where all others count 1."""

    host: NonNegative = Field(0.1, description="Each of `embedding.host_directions`; 0: the host does not matter.")
    unusual: NonNegative = Field(
        4.0, description="The unusualness, where `embedding.unusualness` makes it a dimension."
    )


class Search(Section):
    """Questions asked by the workflow."""

    k: int = Field(24, ge=1, le=10_000, description="Look-alikes per query.")
    radius_arcsec: Positive = Field(2.0, description="How far from `position` a galaxy may be, arcsec.")
    weights: Weights = Field(default_factory=Weights)
    queries: dict[str, Query] = Field(default_factory=dict, description="Questions by name.")

    @model_validator(mode="after")
    def _names_are_file_names(self) -> Self:
        for name in self.queries:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise ValueError(f"query name {name!r} must be letters, digits, `_` and `-`: it names a folder")
        return self


class Evaluation(Section):
    """How well labelled galaxies are found."""

    enabled: bool = Field(True, description="Evaluate; needs the catalog column `label`.")
    negative_label: str = Field("none", description="Label of galaxies without a feature; all others have one.")
    probe_labels: tuple[int, ...] = Field(
        (5, 10, 20, 50, 100, 200, 500),
        min_length=1,
        description="Numbers of labels a linear probe learns from; all is added.",
    )
    set_size: int = Field(20, ge=1, description="Examples in the search from a set.")
    repeats: int = Field(10, ge=2, le=1000, description="Random splits per figure.")
    precision_at: int = Field(20, ge=1, description="k of precision@k.")
    sample: int = Field(
        1000,
        ge=1,
        description="Most labelled galaxies that all methods are compared on: statmorph, for one of them, is slow.",
    )


# --- compute: changes nothing in the results ---------------------------------------------------------------------


class Dask(Section):
    """Where the conversion runs."""

    cluster: Literal["local", "slurm", "address"] = Field("local", description="Where the workers are.")
    workers: int | None = Field(None, ge=1, le=10_000, description="Workers; none: the rule's threads.")
    address: str | None = Field(None, description="Scheduler address, with `cluster: address`.")
    slurm: dict[str, Any] = Field(
        default_factory=dict,
        description="Arguments of dask_jobqueue.SLURMCluster: queue, account, cores, memory, ... Jobs leave their "
        "output in `results/<run>/logs/dask`.",
    )

    @model_validator(mode="after")
    def _address_is_given(self) -> Self:
        if self.cluster == "address" and not self.address:
            raise ValueError("cluster `address` needs `address`: the scheduler's, like tcp://host:8786")
        return self


class Compute(Section):
    """Devices, workers and memory. Changing these re-runs nothing."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Device; auto: the best there is.")
    gpus: int = Field(0, ge=0, le=64, description="GPUs a training job asks for; embed jobs ask for one if not 0.")
    processes: int = Field(1, ge=1, le=64, description="CPU processes of a training job without GPUs.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of the network; auto: bfloat16 on CUDA and on processors that compute in it (AVX512-BF16), else "
        "float32.",
    )
    compile: bool = Field(False, description="Use torch.compile.")
    images_in: Literal["auto", "memory", "stream"] = Field(
        "auto", description="Training images in the device's memory, or streamed by shard; auto: by size."
    )
    embed_batch_size: int = Field(256, ge=1, le=65_536, description="Images per forward pass when embedding.")
    dask: Dask = Dask()


class Settings(Section):
    """The whole configuration of one run."""

    run: str = Field("demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Name: results go to results/<run>/.")
    seed: int = Field(1, ge=0, le=2**31 - 1, description="The one seed of all randomness.")
    catalog: Catalog = Catalog()
    cutouts: Cutouts = Cutouts()
    images: Images = Images()
    stretch: Stretch = Stretch()
    augment: Augment = Augment()
    encoder: Encoder = Encoder()
    training: Training = Training()
    reuse: Reuse = Reuse()
    embedding: Embedding = Embedding()
    index: Index = Index()
    search: Search = Search()
    evaluation: Evaluation = Evaluation()
    compute: Compute = Compute()

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if (self.catalog.source == "simulated") != (self.cutouts.source == "simulated"):
            raise ValueError(
                f"catalog.source {self.catalog.source!r} and cutouts.source {self.cutouts.source!r} contradict: "
                "a simulated catalog and simulated cutouts belong together"
            )
        if self.augment.crop > self.images.size:
            raise ValueError(f"augment.crop {self.augment.crop} must not exceed images.size {self.images.size}")
        if self.embedding.crop and self.embedding.crop > self.images.size:
            raise ValueError(f"embedding.crop {self.embedding.crop} must not exceed images.size {self.images.size}")
        for key, side in (
            ("augment.crop", self.augment.crop),
            ("embedding.crop", self.embedding.crop or self.images.size),
        ):
            if side % self.stretch.bin:
                raise ValueError(f"{key} {side} must be a multiple of stretch.bin {self.stretch.bin}")
        side = self.augment.crop // self.stretch.bin
        if side < self.encoder.smallest_view:
            # On single pixels, torch's convolutions in bfloat16 have random gradients on the CPU (seen with 2.13).
            raise ValueError(
                f"augment.crop {self.augment.crop} over stretch.bin {self.stretch.bin} makes views of {side} pixels, "
                f"of which one would reach the network's last stage: encoder.stem {self.encoder.stem!r} needs at least "
                f"{self.encoder.smallest_view}"
            )
        if self.stretch.asymmetry and self.augment.jitter_pixels:
            raise ValueError(
                f"augment.jitter_pixels {self.augment.jitter_pixels:g} must be 0 with stretch.asymmetry, "
                "which turns a view about its centre"
            )
        if self.cutouts.source == "simulated" and self.training.batch_size > self.cutouts.simulated.galaxies:
            raise ValueError(
                f"training.batch_size {self.training.batch_size} must not exceed the "
                f"{self.cutouts.simulated.galaxies} galaxies of cutouts.simulated.galaxies"
            )
        return self


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    """Keys allowed in the section that holds ``location``."""
    section: type[BaseModel] = Settings
    for part in location[:-1]:
        field = section.model_fields.get(str(part))
        annotation = field.annotation if field else (Query if "queries" in location else None)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
    return sorted(section.model_fields)


def _sentence(error: Mapping[str, Any]) -> str:
    """One pydantic error as one sentence that names the key, the value and what is allowed."""
    location = error["loc"]
    key = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        return f"config: unknown key `{key}`; allowed here: {', '.join(_allowed_keys(location))}"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"config: {key}: {message}" if key else f"config: {message}"
    return f"config: {key} is {error['input']!r}: {message[0].lower()}{message[1:]}"


def _own_faults(error: ValidationError) -> list[Any]:
    """The faults, without those that only follow: a list is `too short` because pydantic left out its bad items."""
    faults = error.errors()
    inside = {fault["loc"][:-1] for fault in faults}
    return [fault for fault in faults if not (fault["type"] == "too_short" and fault["loc"] in inside)]


def load_settings(config: Mapping[str, Any]) -> Settings:
    """Check a configuration and give it types.

    Parameters
    ----------
    config : mapping
        What Snakemake read from the YAML file.

    Raises
    ------
    TidalkinError
        With one sentence per fault: key, value, what is allowed.
    """
    try:
        return Settings.model_validate(dict(config))
    except ValidationError as error:
        raise TidalkinError("\n".join(_sentence(fault) for fault in _own_faults(error))) from None


def config_digest(*sections: Any) -> str:
    """Short digest of configuration values, to tell which configuration made a file."""
    plain = [section.model_dump(mode="json") if isinstance(section, BaseModel) else section for section in sections]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
