"""Configuration of the cutouts: the sources of images and their transport."""

from __future__ import annotations

import re
from collections.abc import Mapping
from string import Formatter
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from tidalkin.config.address import WebAddress
from tidalkin.config.base import BANDS, Band, Fraction, NonNegative, Positive, Range, Section, check_ordered
from tidalkin.config.outside import outside_settings, outside_sources
from tidalkin.constants import PIXEL_SCALE_ARCSEC

BUILT_IN_SOURCES = ("simulated", "folder", "hsc_das", "hsc_patches", "hips2fits", "mmu_hsc")

TWO_LONG_IDS = (43_160_169_307_177_141, 43_160_169_307_177_142)
"""Two ids as HSC has them, to find a template that cannot tell objects apart."""


def template_fields(template: str) -> set[str]:
    """Return the names of the fields in a template of file names.

    Examples
    --------
    >>> sorted(template_fields("{object_id:06d}-{BAND}.fits"))
    ['BAND', 'object_id']
    """
    return {field for _, field, _, _ in Formatter().parse(template) if field is not None}


def fill_template(template: str, object_id: int, band: str) -> str:
    """Fill in the fields of a template of file names.

    Examples
    --------
    >>> fill_template("{object_id:06d}-HSC-{BAND}.fits", 42, "g")
    '000042-HSC-G.fits'
    """
    return template.format(object_id=object_id, band=band, BAND=band.upper())


def check_template(key: str, template: str) -> None:
    """Refuse a template of file names that cannot be filled in.

    Raises
    ------
    ValueError
        With a sentence that begins with ``key``.

    Examples
    --------
    >>> check_template("template", "{object_id}-{BAND}.fits")
    >>> check_template("template", "{tract}.fits")
    Traceback (most recent call last):
        ...
    ValueError: template '{tract}.fits' has the unknown field {tract}: use object_id, band or BAND
    """
    try:
        unknown = sorted(template_fields(template) - {"object_id", "band", "BAND"})
        if not unknown:
            for object_id in (0, *TWO_LONG_IDS):
                fill_template(template, object_id, "g")
    except (ValueError, IndexError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(f"{key} {template!r} cannot be filled in: {error}") from None
    if unknown:
        raise ValueError(f"{key} {template!r} has the unknown field {{{unknown[0]}}}: use object_id, band or BAND")


class SimulatedSurvey(Section):
    """The offline survey: galaxies drawn by GalSim at the depth and seeing of HSC-SSP Wide."""

    galaxies: int = Field(2000, ge=1, le=10_000_000, description="Number of galaxies.")
    tidal_fraction: Fraction = Field(0.25, description="Share of galaxies with a stream, a shell or tails.")
    tidal_surface_brightness: Range = Field(
        (24.0, 28.0), description="Range of the features' surface brightness in i, mag/arcsec²."
    )
    magnitude: Range = Field((17.5, 20.5), description="Range of the galaxies' total i magnitude.")
    half_light_radius_arcsec: Range = Field((0.8, 2.5), description="Range of the galaxies' half-light radii, arcsec.")
    neighbours_per_arcmin2: NonNegative = Field(25.0, description="Galaxies in the field, per square arcminute.")
    stars_per_arcmin2: NonNegative = Field(4.0, description="Stars in the field, per square arcminute.")
    correlated_noise: bool = Field(False, description="Correlate the noise of neighbouring pixels, as warping does.")
    over_subtraction: Fraction = Field(
        0.0,
        description="Share of the undetected light that is subtracted with the sky, as happens near bright galaxies.",
    )

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        for name in ("tidal_surface_brightness", "magnitude", "half_light_radius_arcsec"):
            check_ordered(name, getattr(self, name))
        if self.half_light_radius_arcsec[0] <= 0:
            raise ValueError("half_light_radius_arcsec must be positive")
        return self


class Folder(Section):
    """FITS files you already have."""

    path: str = Field("", description="Folder of the files.")
    template: str = Field(
        "{object_id}-HSC-{BAND}.fits",
        description="File name of one cutout, below `path`. Fields: `{object_id}`, `{band}` (g), `{BAND}` (G), with a "
        "format if needed (`{object_id:06d}`). `*` and `?` match other parts of the name; exactly one file must match. "
        "Without a band field, each object has one multi-extension file, with HDUs named by `hdu_template`.",
    )
    hdu_template: str = Field(
        "{BAND}", description="Name of a band's image HDU, if one file holds all bands. Fields as in `template`."
    )

    @model_validator(mode="after")
    def _template_names_the_object(self) -> Self:
        for key in ("template", "hdu_template"):
            check_template(key, getattr(self, key))
        if "object_id" not in template_fields(self.template):
            raise ValueError(f"template {self.template!r} must contain {{object_id}}")
        one, other = (fill_template(self.template, object_id, "g") for object_id in TWO_LONG_IDS)
        if one == other:
            raise ValueError(
                f"template {self.template!r} gives the objects {TWO_LONG_IDS[0]} and {TWO_LONG_IDS[1]} the same file: "
                "write {object_id} without a format that shortens it"
            )
        if re.search(r"[*?].*/", self.template):
            raise ValueError(
                f"template {self.template!r} must have wildcards in the file's name only, not in a folder's"
            )
        return self

    @property
    def has_file_per_band(self) -> bool:
        """Whether each band of an object has a file of its own."""
        return bool({"band", "BAND"} & template_fields(self.template))


class Transport(Section):
    """Requests to a server.

    Changing these keys fetches nothing again.
    """

    connections: int = Field(4, ge=1, le=8, description="Connections at once, over all jobs. Keep this number small.")
    attempts: int = Field(8, ge=1, le=100, description="Attempts in a row without a response before a job gives up.")
    backoff_seconds: Positive = Field(30.0, description="First wait after a fault, seconds; it doubles with each try.")
    backoff_maximum_seconds: Positive = Field(1800.0, description="Longest such wait, seconds.")
    timeout_seconds: Positive = Field(300.0, description="Longest time without data from the server, seconds.")
    minimum_bytes_per_second: NonNegative = Field(
        100.0, description="A response slower than this, over `timeout_seconds`, is dropped and requested again."
    )


class HscDasTransport(Transport):
    """Requests to the cutout service.

    Changing these keys fetches nothing again.
    """

    timeout_seconds: Positive = Field(3600.0, description="Longest time without data from the server, seconds.")
    lines_per_request: int = Field(990, ge=1, le=1000, description="Cutouts per request.")
    bytes_per_second: Positive | None = Field(None, description="Upper limit of the rate, for all jobs together.")


class HscPatchesTransport(Transport):
    """Requests for patches, and the folder that keeps them while they are cut.

    Changing these keys fetches nothing again.
    """

    cache: str = Field("", description="Folder that keeps patches while they are cut; empty for the user's cache.")
    cache_gigabytes: Positive = Field(
        20.0,
        description="Largest size of this folder, GB. The least recently used patches are deleted. A patch has 0.2 GB "
        "per band.",
    )


class Hips2fitsTransport(Transport):
    """Requests to the hips2fits service.

    Changing these keys fetches nothing again.
    """

    attempts: int = Field(6, ge=1, le=100, description="Attempts of one image before it counts as failed.")
    backoff_seconds: Positive = Field(2.0, description="First wait after a fault, seconds; it doubles with each try.")
    backoff_maximum_seconds: Positive = Field(120.0, description="Longest such wait, seconds.")
    timeout_seconds: Positive = Field(60.0, description="Longest time without data from the service, seconds.")


IMAGE_TYPE = (
    "`coadd/bg` keeps faint extended light; in `coadd`, the sky is also subtracted on small scales, 128 pixels in PDR3."
)


class HscDas(Section):
    """HSC's cutout service (DAS). Credentials come from the environment or ~/.netrc, never from here."""

    HOW: ClassVar[frozenset[str]] = frozenset({"transport"})

    url: WebAddress = Field(
        "https://hsc-release.mtk.nao.ac.jp/das_cutout/pdr3", description="Base address of the cutout service."
    )
    rerun: str = Field("pdr3_wide", description="Rerun: `pdr3_wide`, `pdr3_dud_rev`, `pdr2_wide`, ...")
    image_type: Literal["coadd", "coadd/bg"] = Field("coadd/bg", description=IMAGE_TYPE)
    mask: bool = Field(True, description="Request the mask plane.")
    variance: bool = Field(True, description="Request the variance plane.")
    transport: HscDasTransport = HscDasTransport()


class HscPatches(Section):
    """Whole coadd patches of HSC, cut locally, for dense samples.

    The catalog needs the columns `tract` and `patch`.
    """

    HOW: ClassVar[frozenset[str]] = frozenset({"transport"})
    AS_BEFORE: ClassVar[Mapping[str, Any]] = {"image_type": "coadd"}

    url: WebAddress = Field(
        "https://hsc-release.mtk.nao.ac.jp/archive/filetree", description="Base address of the archive's file tree."
    )
    rerun: str = Field("pdr3_wide", description="Rerun: `pdr3_wide`, `pdr3_dud_rev`, `pdr2_wide`, ...")
    image_type: Literal["coadd", "coadd/bg"] = Field("coadd/bg", description=IMAGE_TYPE)
    transport: HscPatchesTransport = HscPatchesTransport()


class Hips2fits(Section):
    """CDS's hips2fits service: resampled images of HSC without mask and variance, but without an account."""

    HOW: ClassVar[frozenset[str]] = frozenset({"transport"})

    url: WebAddress = Field(
        "https://alasky.cds.unistra.fr/hips-image-services/hips2fits", description="Address of the service."
    )
    hips: str = Field("CDS/P/HSC/DR2/wide/{band}", description="Name of the HiPS. Fields: `{band}` (g), `{BAND}` (G).")
    zero_point: float | None = Field(
        None,
        ge=0.0,
        le=40.0,
        description="AB magnitude of one count in the HiPS, required; 27.0 for HSC's coadds.",
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
    """A local copy of the Multimodal Universe's HSC data set.

    Its images have 160 pixels on a side, with masks and variance.
    """

    path: str = Field("", description="The folder that holds `healpix=*/*.hdf5`.")
    zero_point: float = Field(
        27.0,
        ge=0.0,
        le=40.0,
        description="AB magnitude of one count. The data set keeps the pixels of HSC's coadds, which have 27.",
    )


class Cutouts(Section):
    """The source of the images."""

    source: str = Field(
        "simulated",
        description="The source: `simulated`, `folder`, `hsc_das`, `hsc_patches`, `hips2fits`, `mmu_hsc`, or the name "
        "of a source that an installed package adds.",
        json_schema_extra={"anyOf": [{"enum": [*BUILT_IN_SOURCES]}, {"type": "string"}]},
    )
    bands: tuple[Band, ...] = Field(BANDS, min_length=1, description="Bands, in the order of the network's channels.")
    size_arcsec: Positive = Field(
        16.128, le=300.0, description="Side of the cutouts to draw or request, arcsec (96 pixels are 16.128)."
    )
    simulated: SimulatedSurvey = SimulatedSurvey()
    folder: Folder = Folder()
    hsc_das: HscDas = HscDas()
    hsc_patches: HscPatches = HscPatches()
    hips2fits: Hips2fits = Hips2fits()
    mmu_hsc: MmuHsc = MmuHsc()
    outside: dict[str, SerializeAsAny[Section]] = Field(
        default_factory=dict,
        description="Settings of sources that installed packages add. Write them as `cutouts.<name>`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _outside_sources_are_checked(cls, values: Any) -> Any:
        """Check the settings of outside sources by the packages that add them."""
        if not isinstance(values, Mapping):
            return values
        source = values.get("source", "simulated")
        if not (values.keys() - cls.model_fields.keys()) and source in BUILT_IN_SOURCES and not values.get("outside"):
            return values
        known = {name: entry for name, entry in outside_sources().items() if name not in cls.model_fields}
        if isinstance(source, str) and source not in (*BUILT_IN_SOURCES, *known):
            raise ValueError(
                f"source {source!r} is unknown: use one of {', '.join((*BUILT_IN_SOURCES, *sorted(known)))}"
            )
        given = {**values.get("outside", {}), **{name: values[name] for name in known if name in values}}
        if source in known:
            given.setdefault(source, {})
        outside = {name: outside_settings(known[name], given[name]) for name in given if name in known}
        return {**{key: value for key, value in values.items() if key not in known}, "outside": outside}

    @model_validator(mode="after")
    def _bands_are_distinct_and_source_is_complete(self) -> Self:
        if len(set(self.bands)) != len(self.bands):
            raise ValueError(f"bands {list(self.bands)} names a band twice")
        if self.source == "folder" and not self.folder.path:
            raise ValueError("source `folder` needs `folder.path`: name the folder with your FITS files")
        if self.source == "folder":
            self._check_bands_are_told_apart()
        if self.source == "mmu_hsc" and not self.mmu_hsc.path:
            raise ValueError("source `mmu_hsc` needs `mmu_hsc.path`: name the folder that holds healpix=*/*.hdf5")
        if self.source == "hips2fits" and self.hips2fits.zero_point is None:
            raise ValueError(
                "source `hips2fits` needs `hips2fits.zero_point`, since the service does not say what its pixels are: "
                "27.0 for HSC's coadds (docs/how-to/hsc.md tells how to check it)"
            )
        if self.size_pixels < 8:
            raise ValueError(f"size_arcsec {self.size_arcsec} is under 8 pixels of {PIXEL_SCALE_ARCSEC} arcsec")
        return self

    def _check_bands_are_told_apart(self) -> None:
        """Refuse templates that give two bands the same image."""
        key = "template" if self.folder.has_file_per_band else "hdu_template"
        template = getattr(self.folder, key)
        if len({fill_template(template, 0, band) for band in self.bands}) < len(self.bands):
            fix = "add {band} or {BAND} to `folder.template` or to `folder.hdu_template`"
            raise ValueError(f"folder.{key} {template!r} gives the bands {', '.join(self.bands)} the same image: {fix}")

    def content(self) -> dict[str, Any]:
        """Return the keys that decide the bytes of a cutout."""
        chosen = (self.outside.get(self.source) or getattr(self, self.source)).content()
        chosen.pop("galaxies", None)  # of the simulated survey: how many there are does not change any of them
        content = {"source": self.source, "bands": self.bands, self.source: chosen}
        return content if self.source in ("folder", "mmu_hsc") else content | {"size_arcsec": self.size_arcsec}

    @property
    def size_pixels(self) -> int:
        """Side of the cutouts in pixels."""
        return round(self.size_arcsec / PIXEL_SCALE_ARCSEC)
