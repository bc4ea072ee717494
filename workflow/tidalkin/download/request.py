"""One requested cutout, and the cutout that answered it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple


@dataclass(frozen=True)
class Line:
    """One line of a request: one object in one band."""

    object_id: int
    band: str
    filter: str
    text: str
    """The line as it is sent, without its end."""

    @cached_property
    def key(self) -> tuple[int, str]:
        """What names this line within a chunk."""
        return self.object_id, self.band


class Member(NamedTuple):
    """A cutout that passed every check."""

    line: Line
    tract: int
    content: bytes
