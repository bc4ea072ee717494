"""Configuration of the index, the searches and the evaluation."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from tidalkin.config.base import LEAST_OBJECT_ID, MOST_OBJECT_ID, NonNegative, Positive, Section
from tidalkin.constants import SHARDS_ADDED_TOGETHER


class Index(Section):
    """The FAISS index."""

    HOW: ClassVar[frozenset[str]] = frozenset({"shards_per_part"})

    kind: str = Field("auto", description="`auto`, or any FAISS index_factory string for inner product.")
    queries: int = Field(200, ge=1, le=100_000, description="Queries for the report of recall@10 against exact search.")
    shards_per_part: int = Field(
        1024,
        ge=SHARDS_ADDED_TOGETHER,
        multiple_of=SHARDS_ADDED_TOGETHER,
        description="With more shards than this, each job adds this number (a multiple of 8), and one job joins the "
        "parts. With fewer shards, one job builds the whole index. The result is the same.",
    )


class Query(Section):
    """A query: examples by id, position or FITS cutout, and counter-examples; or no example."""

    like: tuple[int, ...] = Field((), description="object_ids of the examples.")
    unlike: tuple[int, ...] = Field((), description="object_ids of the counter-examples.")
    position: tuple[float, float] | None = Field(None, description="Right ascension and declination, degrees, ICRS.")
    cutout: str | None = Field(
        None, description="Your own galaxy: a multi-band FITS file, or a file name with {band} or {BAND}."
    )
    debris: bool = Field(False, description="Use no example, and list the galaxies with the highest debris score.")

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        has_example = bool(self.like or self.position or self.cutout)
        if self.debris and (has_example or self.unlike):
            raise ValueError("a query with `debris` has no examples and no counter-examples: leave one of them out")
        if not (self.debris or has_example):
            raise ValueError(
                "a query needs `like` (object_ids), `position` ([ra, dec]), `cutout` (a FITS file) or `debris` (no "
                "example)"
            )
        for object_id in (*self.like, *self.unlike):
            if not LEAST_OBJECT_ID <= object_id <= MOST_OBJECT_ID:
                raise ValueError(f"object {object_id} is longer than 63 bits: name an object_id of the catalog")
        both = set(self.like) & set(self.unlike)
        if both:
            raise ValueError(f"object {min(both)} is both in `like` and in `unlike`")
        if self.position and not (0 <= self.position[0] < 360 and -90 <= self.position[1] <= 90):
            raise ValueError(f"position {list(self.position)} must be [ra in 0..360, dec in -90..90] degrees")
        return self


class Search(Section):
    """Queries of the workflow."""

    k: int = Field(24, ge=1, le=10_000, description="Look-alikes per query.")
    radius_arcsec: Positive = Field(2.0, description="Largest distance of a galaxy from `position`, arcsec.")
    debris_weight: NonNegative = Field(
        1.0,
        description="Weight of one standard deviation of the debris score in a search, where the likeness to one "
        "example has weight 1; 0 gives plain look-alikes.",
    )
    queries: dict[str, Query] = Field(default_factory=dict, description="Queries by name.")

    @model_validator(mode="after")
    def _names_are_file_names(self) -> Self:
        for name in self.queries:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise ValueError(f"query name {name!r} must be letters, digits, `_` and `-`: it names a folder")
        return self


class EvaluationSettings(Section):
    """The evaluation of searches against labels."""

    enabled: bool = Field(True, description="Whether to evaluate. Needs the catalog column `label`.")
    negative_label: str = Field(
        "none", description="Label of galaxies without a feature. All other labels are kinds of features."
    )
    probe_labels: tuple[int, ...] = Field(
        (5, 10, 20, 50, 100, 200, 500),
        min_length=1,
        description="Numbers of labels to train a linear probe on. The number of all labels is added.",
    )
    set_size: int = Field(20, ge=1, description="Examples in the search from a set.")
    repeats: int = Field(10, ge=2, le=1000, description="Random splits to average each metric over.")
    precision_at: int = Field(20, ge=1, description="k of precision@k.")
    prevalence: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.06,
        description="Share of galaxies with a feature for which precision is also given. Desmons et al. 2025 find 0.06 "
        "(+0.05, -0.01) in HSC-SSP.",
    )
    sample: int = Field(
        1000,
        ge=1,
        description="Largest number of labelled galaxies to compare the methods on, because statmorph is slow.",
    )
