"""HTTP for public servers: one polite client, retries with growing waits, and errors in sentences.

A failure is either a `Fault`, which is worth another try, or a `TidalkinError`, which no retry can change: a wrong
address, refused credentials, a certificate that does not fit, a proxy that cannot be used.
"""

from __future__ import annotations

import base64
import email.utils
import logging
import os
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol
from urllib.parse import unquote

import httpx
import tenacity

import tidalkin
from tidalkin.download.credentials import Account, credential_places
from tidalkin.download.deadline import RequestDeadline, deadline
from tidalkin.download.faults import Fault
from tidalkin.errors import TidalkinError
from tidalkin.redaction import keep_secret, redact

logger = logging.getLogger(__name__)

USER_AGENT = f"tidalkin/{tidalkin.__version__}"
UNAVAILABLE_STATUS = {408, 425, 429, 500, 502, 503, 504}
"""Troubles of the server that pass."""
WRONG_ADDRESS_STATUS = {400, 404, 405, 410, 414, 501, 505}
"""Answers of a server that does not know the address or the kind of request."""
LONGEST_WAIT_SECONDS = 3600.0
"""Longest ``Retry-After`` that is honoured."""
CONNECT_SECONDS = 60.0
PIECE_TIMEOUTS = 2
"""Longest wait for a whole piece of an answer, in timeouts. A server can send less than a piece at a time."""
MESSAGE_LENGTH = 500
PROXY_VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")


class Limits(Protocol):
    """Limits on the answers of a server, as the configuration gives them."""

    @property
    def timeout_seconds(self) -> float:
        """Longest silence, and the time over which the rate is measured."""
        ...

    @property
    def minimum_bytes_per_second(self) -> float:
        """Slowest rate of an answer."""
        ...


def client(limits: Limits, auth: httpx.BasicAuth | None = None, connections: int = 1) -> httpx.Client:
    """Open a client that names the project and keeps few connections.

    Parameters
    ----------
    limits : Limits
        ``timeout_seconds`` is the longest silence of the server. Each step of a request up to the headers of the answer
        may take twice as long.
    auth : httpx.BasicAuth, optional
        Credentials.
    connections : int
        Most connections at a time.

    Raises
    ------
    TidalkinError
        If the environment names a proxy that cannot be used.

    Examples
    --------
    >>> from tidalkin.config import Hips2fitsTransport
    >>> with client(Hips2fitsTransport(timeout_seconds=30)) as connection:
    ...     connection.timeout.read, connection.headers["Accept-Encoding"]
    (30.0, 'identity')
    """
    silence = limits.timeout_seconds
    _keep_proxy_passwords_secret()
    try:
        return httpx.Client(
            auth=auth,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(min(CONNECT_SECONDS, silence), read=silence),
            limits=httpx.Limits(max_connections=connections),
            event_hooks={"request": [RequestDeadline(PIECE_TIMEOUTS * silence).attach]},
        )
    except (ImportError, ValueError, httpx.InvalidURL):
        # The library's own message quotes the address of the proxy, which may hold a password.
        names = " or ".join(_proxy_variables()) or "the system"
        raise TidalkinError(
            f"the proxy that {names} names cannot be used: name an HTTP proxy, like http://host:port, or unset it"
        ) from None


def _keep_proxy_passwords_secret() -> None:
    """Make the passwords of the proxies known: a proxy may send back its password."""
    for address in urllib.request.getproxies().values():
        user, _, password = address.rpartition("@")[0].rpartition("://")[2].partition(":")
        if password:
            credentials = f"{unquote(user)}:{unquote(password)}"
            keep_secret(password, unquote(password), base64.b64encode(credentials.encode()).decode())


def _proxy_variables() -> list[str]:
    """List the variables that the environment sets for proxies."""
    return [name for name in PROXY_VARIABLES if os.environ.get(name) or os.environ.get(name.lower())]


def _proxy_note(host: str) -> str:
    """Return a note about the proxy of a host; empty without one."""
    if not urllib.request.getproxies() or urllib.request.proxy_bypass(host):
        return ""
    return f" (through the proxy that {' or '.join(_proxy_variables()) or 'the system'} names)"


@contextmanager
def transport_faults(address: httpx.URL, key: str) -> Iterator[None]:
    """Turn a broken connection into a `Fault`, or an error if it is permanent.

    Parameters
    ----------
    address : httpx.URL
        Address of the server.
    key : str
        Key of the configuration that holds the address.

    Examples
    --------
    >>> with transport_faults(httpx.URL("https://example.org"), "cutouts.hips2fits.url"):
    ...     raise httpx.ReadTimeout("the server is silent")
    Traceback (most recent call last):
        ...
    tidalkin.download.faults.Fault: ReadTimeout: the server is silent
    """
    try:
        yield
    except httpx.HTTPError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                raise TidalkinError(
                    f"the certificate of {address.host} cannot be verified ({cause.verify_message}): check `{key}` and "
                    "the certificates of this machine"
                ) from None
            if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
                raise TidalkinError(
                    f"there is no server {address.host}{_proxy_note(address.host)}: check `{key}` and the network"
                ) from None
            cause = cause.__cause__ or cause.__context__
        message = f"{type(error).__name__}: {quoted(str(error))}" if str(error) else type(error).__name__
        is_connecting = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError)
        raise Fault(message + (_proxy_note(address.host) if is_connecting else "")) from None


def quoted(text: str, length: int = MESSAGE_LENGTH) -> str:
    r"""Return a server's text in one line, without passwords, cut to a length.

    Examples
    --------
    >>> quoted("out of\n  memory at http://me:secret@host/", 100)
    'out of memory at http://***@host/'
    """
    # Secrets first: a password that is cut would not be recognised.
    return " ".join(redact(text).split())[:length]


def raise_for_wrong_address(response: httpx.Response, address: httpx.URL, key: str) -> None:
    """Stop if the status shows that the address is wrong.

    Raises
    ------
    TidalkinError
        With the key of the configuration to check.

    Examples
    --------
    >>> raise_for_wrong_address(httpx.Response(200), httpx.URL("https://example.org"), "cutouts.hips2fits.url")
    >>> raise_for_wrong_address(httpx.Response(404), httpx.URL("https://example.org"), "cutouts.hips2fits.url")
    Traceback (most recent call last):
        ...
    tidalkin.errors.TidalkinError: example.org does not serve what `cutouts.hips2fits.url` names (HTTP 404): check that
    address
    """
    status = response.status_code
    if 300 <= status < 400:
        try:
            target = httpx.URL(response.headers.get("Location", "")).host or address.host
        except httpx.InvalidURL:
            target = "an address that cannot be read"
        raise TidalkinError(
            f"{address.host} redirects to {quoted(target)} (HTTP {status}), as to a login page: check `{key}`"
        )
    if status in WRONG_ADDRESS_STATUS:
        raise TidalkinError(f"{address.host} does not serve what `{key}` names (HTTP {status}): check that address")


def retry_after(response: httpx.Response) -> float:
    """Return the wait of a ``Retry-After`` header in seconds; 0 without one.

    The header holds a number or a date (RFC 9110, section 10.2.3). The wait is at most `LONGEST_WAIT_SECONDS`.

    Examples
    --------
    >>> retry_after(httpx.Response(503, headers={"Retry-After": "120"}))
    120.0
    """
    value = response.headers.get("Retry-After", "").strip()
    try:
        if value.isdecimal():
            return min(float(value), LONGEST_WAIT_SECONDS)
        seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, OverflowError, OSError):
        return 0.0
    return min(max(0.0, seconds), LONGEST_WAIT_SECONDS)


def refused_credentials(account: Account, host: str) -> TidalkinError:
    """Return the error for HTTP 401.

    Examples
    --------
    >>> from pydantic import SecretStr
    >>> error = refused_credentials(Account("ada", SecretStr("correct horse"), "~/.netrc"), "example.org")
    >>> str(error).split(";")[0]
    'example.org refuses the credentials found in ~/.netrc (HTTP 401)'
    """
    return TidalkinError(
        f"{host} refuses the credentials found in {account.found_in} (HTTP 401); "
        f"they are looked for in {credential_places(host)}"
    )


def status_fault(response: httpx.Response) -> Fault:
    """Return a status that is worth another try as a fault.

    Examples
    --------
    >>> fault = status_fault(httpx.Response(503, headers={"Retry-After": "30"}))
    >>> str(fault), fault.server_unavailable, fault.retry_after
    ('HTTP 503', True, 30.0)
    """
    status = response.status_code
    return Fault(f"HTTP {status}", server_unavailable=status in UNAVAILABLE_STATUS, retry_after=retry_after(response))


def steady(response: httpx.Response, limits: Limits) -> Iterator[bytes]:
    """Yield the pieces of an answer's body, as long as they come fast enough.

    Only the time spent waiting for the server counts.

    Parameters
    ----------
    response : httpx.Response
        An answer that is streamed.
    limits : Limits
        The rate is measured over each ``timeout_seconds``.

    Raises
    ------
    Fault
        If less than ``minimum_bytes_per_second`` came, or a piece did not end.

    Examples
    --------
    >>> from tidalkin.config import Hips2fitsTransport
    >>> answer = httpx.Response(200, stream=httpx.ByteStream(b"SIMPLE  ="))
    >>> list(steady(answer, Hips2fitsTransport()))
    [b'SIMPLE  =']
    """
    remaining = response.iter_raw()
    stream = response.extensions.get("network_stream")
    waited, received = 0.0, 0
    while True:
        began = time.monotonic()
        with deadline(PIECE_TIMEOUTS * limits.timeout_seconds, stream, "a piece of the answer"):
            piece = next(remaining, None)
        waited += time.monotonic() - began
        if piece is None:
            return
        received += len(piece)
        if waited >= limits.timeout_seconds:
            if received < limits.minimum_bytes_per_second * waited:
                raise Fault(f"the answer is too slow: {received} bytes came in {waited:.0f} s")
            waited, received = 0.0, 0
        yield piece


def read_body(response: httpx.Response, limits: Limits, at_most: int) -> bytes:
    """Read the body of an answer that is streamed.

    Raises
    ------
    Fault
        If it is longer than ``at_most`` bytes or too slow.

    Examples
    --------
    >>> from tidalkin.config import Hips2fitsTransport
    >>> answer = httpx.Response(200, stream=httpx.ByteStream(b"SIMPLE  ="))
    >>> read_body(answer, Hips2fitsTransport(), at_most=100)
    b'SIMPLE  ='
    """
    body = bytearray()
    for piece in steady(response, limits):
        body += piece
        if len(body) > at_most:
            raise Fault(f"the answer is longer than {at_most} bytes, which cannot be right")
    return bytes(body)


def retrying(
    attempts: int,
    first_seconds: float,
    longest_seconds: float,
    is_retryable: Callable[[BaseException], bool] = lambda error: isinstance(error, Fault),
) -> tenacity.Retrying:
    """Return a retrier for faults, with waits that double.

    The waits have jitter, and are no shorter than the server asks.

    Parameters
    ----------
    attempts : int
        Most tries. The last fault is raised when they are used up.
    first_seconds, longest_seconds : float
        First and longest wait.
    is_retryable : callable
        Whether an error is worth another try.

    Examples
    --------
    >>> tries = []
    >>> for attempt in retrying(attempts=3, first_seconds=0.0, longest_seconds=0.0):
    ...     with attempt:
    ...         tries.append(attempt.retry_state.attempt_number)
    ...         if len(tries) < 2:
    ...             raise Fault("HTTP 503")
    >>> tries
    [1, 2]
    """
    backoff = tenacity.wait_exponential(multiplier=first_seconds, max=longest_seconds)
    jittered = backoff + tenacity.wait_random(0, first_seconds)

    def wait(state: tenacity.RetryCallState) -> float:
        fault = state.outcome.exception() if state.outcome else None
        seconds = max(jittered(state), fault.retry_after if isinstance(fault, Fault) else 0.0)
        logger.warning("try %d: %s; waiting %.0f s", state.attempt_number, fault, seconds)
        return seconds

    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(attempts),
        wait=wait,
        retry=tenacity.retry_if_exception(is_retryable),
        reraise=True,
    )
