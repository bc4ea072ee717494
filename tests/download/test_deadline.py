"""No step of an answer lasts longer than its deadline, however its bytes come."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tidalkin.config import HscDasTransport
from tidalkin.download.faults import Fault
from tidalkin.download.http import client, steady

LIMITS = HscDasTransport(timeout_seconds=0.2, minimum_bytes_per_second=1)
HEADERS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@contextmanager
def trickling(*, at_once: bytes = b"", slowly: bytes, every: float = 0.05) -> Iterator[int]:
    """Serve bytes, first some at once, then one after the other; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    connection.sendall(at_once)
                    for byte in slowly:
                        connection.sendall(bytes([byte]))
                        time.sleep(every)
                except OSError:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


def received(address: str) -> bytes:
    with client(LIMITS) as connection, connection.stream("GET", address) as response:
        return b"".join(steady(response, LIMITS))


def test_headers_that_trickle_are_a_fault() -> None:
    with (
        trickling(slowly=b"HTTP/1.1 200 OK\r\nX-Name: " + b"a" * 200) as port,
        pytest.raises(Fault, match="the headers of the answer did not end in"),
    ):
        received(f"http://127.0.0.1:{port}")


def test_a_chunk_whose_header_trickles_is_a_fault() -> None:
    with (
        trickling(at_once=HEADERS + b"3\r\nabc\r\n", slowly=b"4;" + b"a" * 200) as port,
        pytest.raises(Fault, match="a piece of the answer did not end in"),
    ):
        received(f"http://127.0.0.1:{port}")


def test_a_tls_handshake_that_trickles_ends() -> None:
    with (
        trickling(slowly=b"\x16\x03\x03\x40\x00" + bytes(200)) as port,
        pytest.raises(httpx.ConnectTimeout, match="handshake"),
    ):
        received(f"https://127.0.0.1:{port}")


def test_an_answer_in_time_comes_whole() -> None:
    with trickling(at_once=HEADERS, slowly=b"3\r\nabc\r\n0\r\n\r\n", every=0.01) as port:
        assert received(f"http://127.0.0.1:{port}") == b"abc"
