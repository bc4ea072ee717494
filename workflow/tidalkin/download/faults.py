"""The failure of one request that is worth another try."""

from __future__ import annotations

from tidalkin.redaction import redact


class Fault(Exception):
    """A failed request that is worth another try.

    Parameters
    ----------
    message : str
        The reason. Known passwords in it are replaced by stars.
    server_unavailable : bool
        Whether the server did not answer at all or asked to come later, whatever the request was.
    retry_after : float
        Wait that the server asked for, seconds; 0 if it did not.
    """

    def __init__(self, message: str, *, server_unavailable: bool = False, retry_after: float = 0.0) -> None:
        super().__init__(redact(message))
        self.server_unavailable = server_unavailable
        self.retry_after = retry_after
