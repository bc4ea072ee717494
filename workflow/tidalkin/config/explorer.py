"""Configuration of the explorer: the labels that people give, and the map."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from tidalkin.config.base import Section

DISAGREEMENT = "disagreement"
"""Stands for the galaxies to which people gave contrary labels."""


class Explorer(Section):
    """The labels that people give in the explorer, and its map."""

    HOW: ClassVar[frozenset[str]] = frozenset({"positive", "negative", "unsure", "kinds"})

    positive: str = Field("tidal", min_length=1, description="Label of a galaxy with a feature.")
    negative: str = Field("not", min_length=1, description="Label of a galaxy without a feature.")
    unsure: str = Field("unsure", min_length=1, description="Label that no ranking learns from.")
    kinds: tuple[str, ...] = Field(
        ("stream", "shell", "tail"), description="Labels of kinds of features. Each counts as positive."
    )

    projection: Literal["pca", "umap"] = Field(
        "pca", description="How the map places galaxies; `umap` needs the package umap-learn."
    )

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError(f"the labels {', '.join(self.labels)} must differ from each other")
        if DISAGREEMENT in self.labels:
            raise ValueError(f"{DISAGREEMENT!r} names galaxies with contrary labels: choose another label")
        return self

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in the order of their keys."""
        return (self.positive, self.negative, self.unsure, *self.kinds)

    @property
    def positives(self) -> tuple[str, ...]:
        """The labels that count as positive."""
        return (self.positive, *self.kinds)
