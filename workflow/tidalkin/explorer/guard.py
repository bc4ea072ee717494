"""Refuse requests that do not come from the person who started the explorer.

On a login node, every user can reach localhost. A link with a random token is therefore printed, as Jupyter does. The
token is exchanged for a cookie. Host and Origin are checked, so that no other web page can reach the server through the
person's browser.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """The ASGI middleware that checks Host, Origin and token, and adds the security headers.

    Parameters
    ----------
    app : ASGI application
        What is guarded.
    token : str
        The secret of this server.
    hosts : iterable of str
        Names by which the server may be addressed, in any case. The port is not compared, since an SSH tunnel may
        change it.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Iterable[str] = LOCAL_HOSTS) -> None:
        self._app = app
        self._token = token
        self._hosts = frozenset(host.lower() for host in hosts)
        self.cookie = "tidalkin_" + hmac.new(token.encode(), b"cookie name", "sha256").hexdigest()[:8]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that may not pass, or None."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get("host", ""), headers.get("origin")
        if _host_name(host) not in self._hosts:
            return PlainTextResponse(f"host {host!r} is not served here: use localhost\n", 403)
        if origin is not None and _address(origin) != host.lower():
            return PlainTextResponse(f"origin {origin!r} is not this page: open the printed link\n", 403)
        if self._has_cookie(headers.get("cookie", "")):
            return self._without_token(scope)
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if not hmac.compare_digest(query.get("token", "").encode(), self._token.encode()):
            return PlainTextResponse(
                "the token is missing or wrong: open the link that tidalkin explore printed\n", 401
            )
        # Other programs, such as TOPCAT, keep no cookies: the token opens the data itself.
        return None if scope["path"].startswith("/api/") else self._without_token(scope)

    def _without_token(self, scope: Scope) -> Response | None:
        """Redirect an address with the token to one without, and set the cookie."""
        pairs = parse_qsl(scope["query_string"].decode("latin-1"))
        if scope["path"].startswith("/api/") or "token" not in dict(pairs):
            return None
        left = urlencode([(name, value) for name, value in pairs if name != "token"])
        # Relative, so that it holds behind a tunnel; one slash, so that it stays on this host.
        response = RedirectResponse("/" + scope["path"].lstrip("/\\") + (f"?{left}" if left else ""), 303)
        response.set_cookie(self.cookie, self._token, httponly=True, samesite="strict", path="/")
        return response

    def _has_cookie(self, header: str) -> bool:
        # Other servers on localhost set cookies too. Python's SimpleCookie drops them all if one of them is odd.
        given = cookie_parser(header).get(self.cookie, "")
        return hmac.compare_digest(given.encode(), self._token.encode())


def _address(origin: str) -> str | None:
    """Return an Origin header's host and port, or None if it cannot be read.

    Examples
    --------
    >>> _address("http://localhost:8123"), _address("http://[")
    ('localhost:8123', None)
    """
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _host_name(host: str) -> str:
    """Return a Host header's name without the port.

    Examples
    --------
    >>> _host_name("localhost:8123"), _host_name("[::1]:8123")
    ('localhost', '::1')
    """
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
