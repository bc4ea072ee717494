"""Types of a requested cutout and of the verified answer to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

Key = tuple[int, str]
"""Object and band."""


@dataclass(frozen=True)
class CutoutRequest:
    """Request for one object in one band."""

    object_id: int
    band: str
    filter: str
    ra: float
    dec: float
    """Position of the object, degrees (ICRS)."""
    size_pixels: int
    """Side of the image, pixels."""
    text: str
    """The request as it is sent: one line of a list, or the query of an address."""

    @cached_property
    def key(self) -> Key:
        """Object and band, which identify the request within a chunk."""
        return self.object_id, self.band


class VerifiedCutout(NamedTuple):
    """A cutout that passed every check."""

    request: CutoutRequest
    tract: int
    content: bytes
