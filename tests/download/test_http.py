"""Waits that a server asks for, slow answers, proxies, and addresses that lead nowhere."""

from __future__ import annotations

import base64
import email.utils
import socket
import time
import traceback
from collections.abc import Iterator

import httpx
import pytest

from servers.hsc_server import HscServer
from tidalkin.config import HscDasTransport
from tidalkin.download.faults import Fault
from tidalkin.download.http import LONGEST_WAIT_SECONDS, client, quoted, retry_after, steady, transport_faults
from tidalkin.errors import TidalkinError


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("120", 120), (email.utils.formatdate(0, usegmt=True), 0), ("soon", 0), ("", 0)],
)
def test_retry_after_is_a_number_a_past_date_or_nothing(header: str, seconds: float) -> None:
    assert retry_after(httpx.Response(503, headers={"Retry-After": header})) == seconds


def test_retry_after_is_the_time_left_until_a_date() -> None:
    in_an_hour = email.utils.formatdate(time.time() + 3600, usegmt=True)
    response = httpx.Response(503, headers={"Retry-After": in_an_hour})
    assert retry_after(response) == pytest.approx(3600, abs=60)


@pytest.mark.parametrize("header", ["1000000000", "9" * 500, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_retry_after_is_bounded(header: str) -> None:
    assert retry_after(httpx.Response(503, headers={"Retry-After": header})) == LONGEST_WAIT_SECONDS


@pytest.mark.parametrize("header", ["Mon, 99 Foo 1 00:00:00 GMT", "1e9", "-5", "inf"])
def test_retry_after_that_cannot_be_read_is_no_wait(header: str) -> None:
    assert retry_after(httpx.Response(503, headers={"Retry-After": header})) == 0


def test_pieces_that_come_too_slowly_are_a_fault() -> None:
    def pieces() -> Iterator[bytes]:
        while True:
            time.sleep(0.02)
            yield b"x"

    with pytest.raises(Fault, match="too slow"):
        list(
            steady(
                httpx.Response(200, content=pieces()),
                HscDasTransport(timeout_seconds=0.1, minimum_bytes_per_second=1000),
            )
        )


def test_the_time_that_the_reader_takes_does_not_make_an_answer_slow() -> None:
    limits = HscDasTransport(timeout_seconds=0.1, minimum_bytes_per_second=1000)
    for _ in steady(httpx.Response(200, content=iter([b"x"] * 5)), limits):
        time.sleep(0.05)


@pytest.mark.parametrize("variable", ["ALL_PROXY", "HTTPS_PROXY"])
@pytest.mark.parametrize("proxy", ["socks5://me:hunter2@127.0.0.1:1", "nonsense://me:hunter2@x", "http://[me:hunter2"])
def test_a_proxy_that_cannot_be_used_is_one_sentence(
    variable: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(TidalkinError, match=f"the proxy that {variable} names cannot be used") as caught:
        client(HscDasTransport())
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_proxy_that_sends_back_its_password_gets_it_into_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    with HscServer() as proxy:
        proxy.mount(
            "http://example.org", lambda handler: handler.reply(400, str(handler.headers).encode(), "text"), "GET"
        )
        monkeypatch.setenv("HTTP_PROXY", f"http://me:correct%20horse@{proxy.host}")
        with client(HscDasTransport()) as connection:
            body = connection.get("http://example.org").text
    assert base64.b64encode(b"me:correct horse").decode() in body
    assert base64.b64encode(b"me:correct horse").decode() not in quoted(body)
    assert quoted("407 correct horse, correct%20horse") == "407 ***, ***"


def test_a_dead_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    address = httpx.URL("https://example.org")
    with (
        client(HscDasTransport()) as connection,
        pytest.raises(Fault, match="through the proxy that HTTPS_PROXY names"),
        transport_faults(address, "cutouts.hsc_das.url"),
    ):
        connection.get(address)


def test_a_server_that_does_not_exist_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_host(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    address = httpx.URL("https://nowhere.example.org")
    with (
        client(HscDasTransport()) as connection,
        pytest.raises(TidalkinError, match=r"there is no server nowhere.example.org: check `cutouts.hsc_das.url`"),
        transport_faults(address, "cutouts.hsc_das.url"),
    ):
        connection.get(address)
