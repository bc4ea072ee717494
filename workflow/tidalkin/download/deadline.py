"""Deadlines for each step of an answer, however its bytes come.

The timeout of a socket starts again with every byte. A server that sends one byte of its headers a second would
therefore hold a job for hours.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpcore
import httpx

from tidalkin.download.faults import Fault

STEPS = {
    "send_request_headers": "the request",
    "send_request_body": "the request",
    "receive_response_headers": "the headers of the answer",
}
"""Steps of a request that need a deadline, by the names of httpcore's trace extension.

The TLS handshake has one of its own in the standard library.
"""


@contextmanager
def deadline(seconds: float, stream: httpcore.NetworkStream | None, step: str) -> Iterator[None]:
    """Shut a connection down if a block does not end in time.

    Parameters
    ----------
    seconds : float
        Longest time.
    stream : httpcore.NetworkStream, optional
        The connection.
    step : str
        Description of the block.

    Raises
    ------
    Fault
        If the time is over.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> ours, theirs = socket.socketpair()
    >>> with deadline(0.01, SimpleNamespace(get_extra_info=lambda name: ours), "the answer"):
    ...     _ = ours.recv(1)  # nothing is sent
    Traceback (most recent call last):
        ...
    tidalkin.download.faults.Fault: the answer did not end in ... s
    """
    if stream is None:
        yield
        return
    is_over = threading.Event()

    def shut_down() -> None:
        is_over.set()
        # The connection may be closed by now. A TLS socket's own method would wait for the server.
        with suppress(OSError):
            socket.socket.shutdown(stream.get_extra_info("socket"), socket.SHUT_RDWR)

    timer = threading.Timer(seconds, shut_down)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if is_over.is_set():
            raise Fault(f"{step} did not end in {seconds:.0f} s")


class RequestDeadline:
    """Deadline for each step of a client's requests up to the headers of the answer.

    The client sends one request at a time. The connection that it opened last is the one that it uses.

    Parameters
    ----------
    seconds : float
        Longest time of a step.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._stream: httpcore.NetworkStream | None = None
        self._running = ExitStack()

    def attach(self, request: httpx.Request) -> None:
        """Let the request report its steps: an event hook of `httpx.Client`."""
        request.extensions["trace"] = self._report

    def _report(self, event: str, details: Mapping[str, Any]) -> None:
        """Start or end the deadline of a step: httpcore's trace extension."""
        _, step, state = event.rsplit(".", 2)
        if step in STEPS:
            self._running.close()
            if state == "started":
                self._running.enter_context(deadline(self._seconds, self._stream, STEPS[step]))
        if step in ("connect_tcp", "start_tls") and state == "complete":
            self._stream = details["return_value"]
