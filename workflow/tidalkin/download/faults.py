"""The fault of one request that is worth another try."""

from __future__ import annotations


class Fault(Exception):
    """Something went wrong with one request, which is worth another try.

    Attributes
    ----------
    server_away : bool
        The server did not answer at all or asked to come later, whatever was in the request.
    retry_after : float
        How long the server asked to wait, seconds; 0 if it did not.
    """

    def __init__(self, message: str, *, server_away: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.server_away = server_away
        self.retry_after = retry_after
