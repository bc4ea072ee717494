"""Asking a public server politely, and only where it is safe to: retries, waits, addresses.

What `tidalkin.sources.hsc.sql`, `hsc_patches` and `hips2fits` share.
"""

from __future__ import annotations

import email.utils
import logging
import time
from collections.abc import Callable

import httpx
import tenacity

import tidalkin
from tidalkin.download.credentials import Account, where_looked
from tidalkin.download.faults import Fault
from tidalkin.errors import TidalkinError

logger = logging.getLogger("tidalkin.download")

USER_AGENT = f"tidalkin/{tidalkin.__version__}"
UNAVAILABLE_STATUS = {408, 425, 429, 500, 502, 503, 504}
"""The server's own troubles, which pass."""
LONGEST_WAIT_SECONDS = 6 * 3600.0
"""The longest ``Retry-After`` that is honoured."""
CONNECT_SECONDS = 60.0
THIS_MACHINE = {"127.0.0.1", "localhost", "::1"}


def safe_address(url: str, key: str) -> httpx.URL:
    """The address ``url``, if credentials may be sent there.

    Parameters
    ----------
    url : str
        As configured.
    key : str
        The configuration's key, for the error.

    Raises
    ------
    TidalkinError
        If it is no web address, holds credentials itself, or would send them in the clear.
    """
    try:
        address = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL:
        raise TidalkinError(f"config: {key} is {url!r}, which is no web address") from None
    if address.userinfo:
        raise TidalkinError(
            f"config: {key} holds credentials: remove them; they are looked for in {where_looked(address.host)}"
        )
    if not address.host or (address.scheme != "https" and address.host not in THIS_MACHINE):
        raise TidalkinError(f"config: {key} is {url!r}, but it must start with https://")
    return address


def client(silence_seconds: float, auth: httpx.BasicAuth | None = None) -> httpx.Client:
    """One keep-alive connection that names the project, and waits ``silence_seconds`` for each piece of an answer."""
    return httpx.Client(
        auth=auth,
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        timeout=httpx.Timeout(min(CONNECT_SECONDS, silence_seconds), read=silence_seconds),
        limits=httpx.Limits(max_connections=1),
    )


def retry_after(response: httpx.Response) -> float:
    """Seconds of a ``Retry-After`` header: a number or a date (RFC 9110, section 10.2.3); 0 without one."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def refused_credentials(account: Account, host: str) -> TidalkinError:
    """The error for HTTP 401."""
    return TidalkinError(
        f"{host} refuses the credentials found in {account.found_in} (HTTP 401); "
        f"they are looked for in {where_looked(host)}"
    )


def status_fault(response: httpx.Response) -> Fault:
    """A status that is worth another try, as a fault."""
    status = response.status_code
    return Fault(f"HTTP {status}", server_unavailable=status in UNAVAILABLE_STATUS, retry_after=retry_after(response))


def transport_fault(error: httpx.HTTPError) -> Fault:
    """A connection that broke, as a fault."""
    return Fault(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)


def retrying(
    attempts: int,
    first_seconds: float,
    longest_seconds: float,
    is_retryable: Callable[[BaseException], bool] = lambda error: isinstance(error, Fault),
) -> tenacity.Retrying:
    """Try again after a `Fault`: waits double, with jitter, and are no shorter than the server asks.

    The last fault is raised when the tries are used up.
    """
    backoff = tenacity.wait_exponential(multiplier=first_seconds, max=longest_seconds)
    jittered = backoff + tenacity.wait_random(0, first_seconds)

    def wait(state: tenacity.RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        asked = fault.retry_after if isinstance(fault, Fault) else 0.0
        seconds = max(jittered(state), min(asked, LONGEST_WAIT_SECONDS))
        logger.warning("try %d: %s; waiting %.0f s", state.attempt_number, fault, seconds)
        return seconds

    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(attempts),
        wait=wait,
        retry=tenacity.retry_if_exception(is_retryable),
        reraise=True,
    )
