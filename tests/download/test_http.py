"""Waits that a server asks for."""

from __future__ import annotations

import email.utils
import time

import httpx
import pytest

from tidalkin.download.http import retry_after


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
