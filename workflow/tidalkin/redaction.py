"""Keep passwords out of log messages, errors and tracebacks.

Every message of the package passes through `redact`. `tidalkin.errors.TidalkinError` and the faults of requests call
it, and `RedactingFormatter` writes the logs. A server may send back what it received, so that a message that quotes the
server can hold the password.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import re
from urllib.parse import quote, quote_plus

STARS = "***"
_USER_OF_ADDRESS = re.compile(r"(?<=://)[^\s\"'<>]*@")
"""User name and password inside an address, like that of a proxy. A password may hold ``/`` or ``@``."""
_patterns: dict[str, None] = {}
"""Patterns of the known secrets of this process, in the order they were made known."""


def keep_secret(*secrets: str) -> None:
    """Make secrets known, so that `redact` replaces them from now on.

    Parameters
    ----------
    *secrets : str
        Passwords or tokens. Their URL, JSON, HTML, Python and base64 spellings are replaced too.

    Examples
    --------
    >>> keep_secret("hunter22")
    >>> redact("GET /?password=hunter22")
    'GET /?password=***'
    """
    for secret in filter(None, secrets):
        spellings = {
            secret,
            quote(secret),
            quote(secret, safe=""),
            quote_plus(secret),
            json.dumps(secret)[1:-1],
            json.dumps(secret, ensure_ascii=False)[1:-1],
            html.escape(secret),
            repr(secret)[1:-1],
            repr(secret.encode())[2:-1],
            base64.b64encode(secret.encode()).decode().rstrip("="),
        }
        for spelling in spellings:
            # White space may have been joined or wrapped on the way.
            _patterns[r"\s+".join(map(re.escape, re.split(r"\s+", spelling)))] = None


def redact(text: str) -> str:
    """Replace every known secret, and every user inside an address, by stars.

    Examples
    --------
    >>> keep_secret("open sesame")
    >>> redact("the server says open%20sesame")
    'the server says ***'
    >>> redact("no route to http://me:secret@proxy.example.org:8080")
    'no route to http://***@proxy.example.org:8080'
    """
    for pattern in sorted(_patterns, key=len, reverse=True):
        text = re.sub(pattern, STARS, text, flags=re.IGNORECASE)
    return _USER_OF_ADDRESS.sub(f"{STARS}@", text)


class RedactingFormatter(logging.Formatter):
    """Format log records, tracebacks included, without the known secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        return redact(super().format(record))
