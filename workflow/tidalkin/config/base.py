"""Types and checks shared by all sections of the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Band = Literal["g", "r", "i", "z", "y"]
BANDS: tuple[Band, ...] = ("g", "r", "i", "z", "y")
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Range = tuple[float, float]
LEAST_OBJECT_ID, MOST_OBJECT_ID = -(2**63), 2**63 - 1


def check_ordered(name: str, bounds: Range) -> None:
    """Refuse a range whose bounds are in the wrong order.

    Examples
    --------
    >>> check_ordered("zoom", (0.8, 1.25))
    >>> check_ordered("zoom", (1.25, 0.8))
    Traceback (most recent call last):
        ...
    ValueError: zoom must be [low, high] with low <= high, not [1.25, 0.8]
    """
    if not bounds[0] <= bounds[1]:
        raise ValueError(f"{name} must be [low, high] with low <= high, not {list(bounds)}")


class Section(BaseModel):
    """A part of the configuration: immutable, and strict about unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    HOW: ClassVar[frozenset[str]] = frozenset()
    """Keys that control how, not what, is computed. Changing them re-runs nothing."""

    AS_BEFORE: ClassVar[Mapping[str, Any]] = {}
    """Keys that a release has added, with the value that gives the results of earlier releases.

    A key with this value re-runs nothing when the program is updated.
    """

    def content(self) -> dict[str, Any]:
        """Return the keys that decide a result, as plain Python objects."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name not in self.HOW}
        new = self.AS_BEFORE
        chosen = {name: value for name, value in values.items() if name not in new or value != new[name]}
        return {name: value.content() if isinstance(value, Section) else value for name, value in chosen.items()}

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_written_as_such(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `true` for a number, and text like `1_000` or `010`.

        pydantic takes them for 1, 1000 and 10. Text such as 1e-3 is allowed, since YAML takes it for text.
        """
        annotation = str(cls.model_fields[str(info.field_name)].annotation)
        if not re.search(r"\b(int|float)\b", annotation):
            return value
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, bool):
                raise ValueError("must be a number, not true or false")
            if isinstance(one, str) and re.fullmatch(r"[-+]?(0\d.*|\d.*_.*)", one.strip()):
                raise ValueError(f"must be a number in decimal digits, not {one!r}")
        return value
