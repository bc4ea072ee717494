"""Addresses of servers in the configuration."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

_ADDRESS = re.compile(
    r"(?P<scheme>[a-z]+)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?P<port>:\d{1,5})?(?:/[!-~]*)?",
    re.IGNORECASE,
)
THIS_MACHINE = ("127.0.0.1", "localhost", "[::1]")


def check_address(url: Any) -> str:
    """Return the base address of a server without its final slash.

    The errors do not quote the address, since it may hold a password.

    Raises
    ------
    ValueError
        If it is not a web address, holds a password, or would send a password in the clear.

    Examples
    --------
    >>> check_address("https://example.org/data/")
    'https://example.org/data'
    """
    if not isinstance(url, str):
        raise ValueError("must be an address that starts with https://")
    if "@" in url:
        raise ValueError(
            "must not hold a user name or a password: remove them, and set the environment variables HSC_SSP_USER and "
            "HSC_SSP_PASSWORD or write them to ~/.netrc"
        )
    parts = _ADDRESS.fullmatch(url)
    if parts is None or int((parts["port"] or ":0")[1:]) > 65535:
        raise ValueError("is not a web address: it must look like https://example.org/path")
    if set("?#") & set(url):
        raise ValueError("must end with the path, without ? and #")
    scheme, host = parts["scheme"].lower(), parts["host"].lower()
    if scheme != "https" and not (scheme == "http" and host in THIS_MACHINE):
        raise ValueError(f"must start with https://, since {host} is not this machine")
    return url.rstrip("/")


WebAddress = Annotated[str, BeforeValidator(check_address)]
