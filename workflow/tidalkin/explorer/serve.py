"""Start the explorer: print its link, open the browser, serve until Ctrl-C."""

from __future__ import annotations

import secrets
import socket
import sys
import threading
import webbrowser
from pathlib import Path

import uvicorn

from tidalkin import config
from tidalkin.errors import TidalkinError
from tidalkin.explorer.guard import LOCAL_HOSTS, Guard
from tidalkin.explorer.server import Explorer, create_app
from tidalkin.explorer.survey import Survey

SECONDS_FOR_OPEN_REQUESTS = 1


def serve(run: str | Path, settings: config.Settings, *, host: str, port: int, who: str, open_browser: bool) -> None:
    """Serve a run until the process is interrupted.

    Parameters
    ----------
    run : path
        ``results/<run>``.
    settings : Settings
        The configuration of the run.
    host : str
        The address to listen at.
    port : int
        The port; 0 for a free one.
    who : str
        The person who judges.
    open_browser : bool
        Whether to open the page in a browser.

    Raises
    ------
    TidalkinError
        If the run is not complete or the port is in use.

    Examples
    --------
    >>> options = {"host": "localhost", "port": 0, "who": "ada", "open_browser": True}
    >>> serve("results/demo", config.Settings(run="demo"), **options)  # doctest: +SKIP
    demo: 60 galaxies. Open this link; Ctrl-C ends.
    <BLANKLINE>
      http://localhost:41923/?token=...
    """
    explorer = Explorer(Survey(run), settings, who)
    listening = _listen(host, port)
    token = secrets.token_urlsafe(24)
    port = listening.getsockname()[1]
    hosts = (
        {*LOCAL_HOSTS, host}
        if host not in ("0.0.0.0", "::")
        else {*LOCAL_HOSTS, socket.getfqdn(), socket.gethostname()}
    )
    shown = "localhost" if host in LOCAL_HOSTS else (socket.getfqdn() if host in ("0.0.0.0", "::") else host)
    address = f"[{shown}]" if ":" in shown else shown  # of IPv6
    link = f"http://{address}:{port}/?token={token}"
    app = Guard(create_app(explorer, token), token, hosts)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # its lines would hold the token
            server_header=False,
            timeout_graceful_shutdown=SECONDS_FOR_OPEN_REQUESTS,
        )
    )
    print(f"{explorer.survey.name}: {len(explorer.survey.ids):,} galaxies. Open this link; Ctrl-C ends.\n\n  {link}\n")
    sys.stdout.flush()
    if open_browser:
        threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()
    server.run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Listen at an address, so that the port is known before the link is printed."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise TidalkinError(
            f"cannot listen at {host}, port {port} ({error.strerror or error}): name another one with --port"
        ) from None
    # Connections inherit this. Without it, the second packet of every answer waits 40 ms for the browser's receipt.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
