"""A known password is in no message, whatever spelling a server sends it back in."""

from __future__ import annotations

import base64
import html
import json
import logging
from urllib.parse import quote, quote_plus

import pytest
from pydantic import SecretStr

from tidalkin.download.credentials import Account
from tidalkin.download.faults import Fault
from tidalkin.errors import TidalkinError
from tidalkin.redaction import RedactingFormatter, redact

PASSWORD = "pass wörd/&'+\"%<1"


@pytest.fixture(autouse=True)
def account() -> Account:
    return Account("astronomer", SecretStr(PASSWORD), "the test")


@pytest.mark.parametrize(
    "spelling",
    [
        PASSWORD,
        PASSWORD.replace(" ", "\n   "),
        PASSWORD.upper(),
        quote(PASSWORD),
        quote(PASSWORD, safe="").lower(),
        quote_plus(PASSWORD),
        json.dumps(PASSWORD)[1:-1],
        json.dumps(PASSWORD, ensure_ascii=False)[1:-1],
        html.escape(PASSWORD),
        repr(PASSWORD)[1:-1],
        repr(PASSWORD.encode())[2:-1],
        base64.b64encode(PASSWORD.encode()).decode(),
        base64.b64encode(f"astronomer:{PASSWORD}".encode()).decode(),
    ],
)
def test_every_spelling_of_a_password_is_replaced(spelling: str) -> None:
    assert redact(f"before {spelling} after").rstrip("=") in (
        "before *** after",
        "before ***= after",
        "before ***== after",
    )
    assert spelling not in str(TidalkinError(f"the server says {spelling}"))
    assert spelling not in str(Fault(f"the server says {spelling}"))


@pytest.mark.parametrize(
    "address", ["http://me:hunter2@proxy:8080", "socks5://hunter2@proxy", "https://me:hun/hunter2@9@proxy/a?b"]
)
def test_a_password_inside_an_address_is_replaced_though_nobody_made_it_known(address: str) -> None:
    assert redact(f"no route to {address}, sorry").startswith(f"no route to {address.partition('://')[0]}://***@proxy")
    assert "hunter2" not in redact(address)


def test_an_address_without_a_user_is_kept() -> None:
    text = "look at https://example.org/a/b?c=d and write to me@example.org"
    assert redact(text) == text


def test_messages_arguments_and_tracebacks_of_a_log_are_redacted() -> None:
    formatter = RedactingFormatter("%(levelname)s %(message)s")
    try:
        raise KeyError(PASSWORD)
    except KeyError as error:
        traceback = (type(error), error, error.__traceback__)
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "server: %s", (PASSWORD,), traceback)
    written = formatter.format(record)
    assert "ERROR server: ***" in written
    assert "KeyError" in written
    assert "wörd" not in written
