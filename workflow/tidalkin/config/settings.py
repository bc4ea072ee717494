"""The whole configuration of one run, its checks, and its digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator

from tidalkin.config.base import Section
from tidalkin.config.catalog import Catalog
from tidalkin.config.completeness import Completeness
from tidalkin.config.compute import Compute
from tidalkin.config.cutouts import Cutouts
from tidalkin.config.explorer import Explorer
from tidalkin.config.images import SMALLEST_IMAGE, Images, Stretch
from tidalkin.config.injection import Injection
from tidalkin.config.model import Augment, Embedding, Network, Reuse, Training
from tidalkin.config.search import EvaluationSettings, Index, Query, Search
from tidalkin.constants import PIXEL_SCALE_ARCSEC
from tidalkin.errors import TidalkinError

_NUMBER = TypeAdapter(float)
_BEYOND_ANY_SIZE = 1e9
"""A size this large is refused where it stands; no other is derived from it."""


def _given(values: Mapping[str, Any], section: str, key: str) -> float | None:
    """Return a number of the configuration; none if it is absent or is not one.

    YAML takes 1.2e1 for text, and a number may be in quotes. The fields' own types read both as numbers, and so does
    this.
    """
    part = _part(values, section)
    value = part.get(key) if isinstance(part, Mapping) else None
    if isinstance(value, bool):
        return None
    try:
        number = _NUMBER.validate_python(value)
    except ValidationError:
        return None
    return number if 0 < number < _BEYOND_ANY_SIZE else None


def _part(values: Mapping[str, Any], section: str) -> Any:
    """Return the keys given in a section, from YAML or made in Python."""
    part = values.get(section, {})
    return {name: getattr(part, name) for name in part.model_fields_set} if isinstance(part, Section) else part


def _with_default(values: Mapping[str, Any], section: str, key: str, value: int) -> Mapping[str, Any]:
    """Fill in a key of a section that was not given."""
    part = _part(values, section)
    return {**values, section: {key: value, **part}} if isinstance(part, Mapping) else values


class Settings(Section):
    """The whole configuration of one run."""

    run: str = Field(
        "demo",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=100,
        description="Name of the run. Results go to `results/<run>/`.",
    )
    seed: int = Field(1, ge=0, le=2**31 - 1, description="Seed of all random numbers.")
    catalog: Catalog = Catalog()
    cutouts: Cutouts = Cutouts()
    images: Images = Images()
    stretch: Stretch = Stretch()
    augment: Augment = Augment()
    encoder: Network = Network()
    training: Training = Training()
    injection: Injection = Injection()
    reuse: Reuse = Reuse()
    embedding: Embedding = Embedding()
    index: Index = Index()
    search: Search = Search()
    evaluation: EvaluationSettings = EvaluationSettings()
    explorer: Explorer = Explorer()
    completeness: Completeness = Completeness()
    compute: Compute = Compute()

    @model_validator(mode="before")
    @classmethod
    def _sizes_follow_the_cutouts(cls, values: Any) -> Any:
        """Fill in the sizes of images, views and embedded parts that are not given."""
        if not isinstance(values, Mapping):
            return values
        size = _given(values, "images", "size")
        if size is None and (side := _given(values, "cutouts", "size_arcsec")) is not None:
            size = max(round(side / PIXEL_SCALE_ARCSEC), SMALLEST_IMAGE)
            values = _with_default(values, "images", "size", size)
        size = size or Images().size
        step = _given(values, "stretch", "bin") or Stretch().bin
        side = max(int(size - size % step), SMALLEST_IMAGE)
        if size >= SMALLEST_IMAGE:
            values = _with_default(values, "augment", "crop", side)
            if side != size:
                values = _with_default(values, "embedding", "crop", side)
        return values

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
        for name, query in self.search.queries.items():
            if query.debris and not self.injection.enabled:
                raise ValueError(
                    f"search.queries.{name}.debris needs a debris score, which is learned from injected light: set "
                    "injection.head_weight or injection.map_weight above 0, or name examples"
                )
        if self.cutouts.source == "simulated" and self.training.batch_size > self.cutouts.simulated.galaxies:
            raise ValueError(
                f"training.batch_size {self.training.batch_size} must not exceed the "
                f"{self.cutouts.simulated.galaxies} galaxies of cutouts.simulated.galaxies"
            )
        return self


_RUN_NAME = "must begin with a letter or a digit; letters, digits, `_`, `.` and `-` may follow"
_MEANINGS = {
    "model_type": "must be a section, with keys and their values below it",
    "dict_type": "must be a section, with keys and their values below it",
    "tuple_type": "must be a list, like [a, b]",
    "list_type": "must be a list, like [a, b]",
    "string_type": "must be text: write it in quotes",
}
"""Sentences for the types of pydantic's errors whose own words are those of a programmer."""


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    """List the keys allowed in the section that holds ``location``."""
    section: type[BaseModel] = Settings
    for part in location[:-1]:
        field = section.model_fields.get(str(part))
        annotation = field.annotation if field else (Query if "queries" in location else None)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
    return sorted(section.model_fields)


def _sentence(error: Mapping[str, Any]) -> str:
    """Turn a pydantic error into a sentence: key, value and allowed values."""
    location = error["loc"]
    key = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        return f"config: unknown key `{key}`; allowed here: {', '.join(_allowed_keys(location))}"
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "value_error":
        return f"config: {key}: {message}" if key else f"config: {message}"
    if error["type"] == "invalid_key" or location[-1:] == ("[key]",):
        return f"config: {key.removesuffix('.[key]')}: a key must be text: write it in quotes"
    message = _MEANINGS.get(error["type"], message)
    if error["type"] == "string_pattern_mismatch" and location == ("run",):
        message = _RUN_NAME
    # A password may be in an address, wherever the address stands.
    value = re.sub(r"(?<=//)[^'\"]*@", "***@", repr(error["input"]))
    return f"config: {key} is {value}: {message[0].lower()}{message[1:]}"


def _own_faults(error: ValidationError) -> list[Any]:
    """Return the faults that do not follow from others.

    A list is `too short` if pydantic left out its bad items.
    """
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

    Examples
    --------
    >>> load_settings({"run": "mine", "images": {"size": 64}}).images.size
    64
    """
    try:
        return Settings.model_validate(_plain(config))
    except ValidationError as error:
        raise TidalkinError("\n".join(_sentence(fault) for fault in _own_faults(error))) from None


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration, if it holds only types that a YAML file without tags has.

    pydantic takes a set for a list, in an order that changes from run to run, and bytes for text.
    """
    faults = list(_odd_values(config, "", set()))
    if faults:
        raise TidalkinError("\n".join(faults))
    return dict(config)


def _odd_values(value: Any, key: str, seen: set[int]) -> Iterator[str]:
    """List the values of odd types.

    ``seen`` holds the identities of the sections and lists that were checked.
    """
    if isinstance(value, Mapping | list | tuple):
        if id(value) in seen:
            return
        seen.add(id(value))
        parts = value.items() if isinstance(value, Mapping) else ((None, part) for part in value)
        for name, part in parts:
            below = [key] * bool(key) + ([] if name is None else [str(name)])
            yield from _odd_values(part, ".".join(below), seen)
    elif value is not None and not isinstance(value, str | int | float):
        kind = type(value).__name__
        yield f"config: {key} is {value!r}, a {kind}: write text, a number, a list like [a, b] or a section"


def config_digest(*sections: Any) -> str:
    """Digest configuration values, to identify the configuration that made a file.

    Examples
    --------
    >>> config_digest(Images(size=64)) == config_digest(Images(size=96))
    False
    """
    plain = [section.content() if isinstance(section, Section) else section for section in sections]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
