"""Credentials of the HSC archive are found in several places and never shown."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from tidalkin.download.credentials import Account, Refusals, find_account
from tidalkin.errors import TidalkinError

HOST = "hsc-release.mtk.nao.ac.jp"
PASSWORD = "xyzzy-plugh"


def netrc(folder: Path, content: str, mode: int = 0o600) -> dict[str, str]:
    """Make a home directory with a netrc file; return it as an environment."""
    path = folder / ".netrc"
    path.write_text(content)
    path.chmod(mode)
    return {"HOME": str(folder)}


def secret(account: Account) -> tuple[str, str]:
    return account.user, account.password.get_secret_value()


@pytest.mark.parametrize("name", ["HSC_SSP_PASSWORD", "HSC_SSP_CAS_PASSWORD"])
def test_the_environment_holds_the_credentials(name: str) -> None:
    assert secret(find_account(HOST, {"HSC_SSP_USER": "me", name: PASSWORD})) == ("me", PASSWORD)


def test_the_environment_goes_before_the_netrc_file(tmp_path: Path) -> None:
    environment = netrc(tmp_path, f"machine {HOST} login other password other")
    environment |= {"HSC_SSP_USER": "me", "HSC_SSP_PASSWORD": PASSWORD}
    assert secret(find_account(HOST, environment)) == ("me", PASSWORD)


def test_the_netrc_file_holds_the_credentials(tmp_path: Path) -> None:
    environment = netrc(
        tmp_path, f"machine elsewhere login a password b\nmachine {HOST} login me password {PASSWORD}\n"
    )
    assert secret(find_account(HOST, environment)) == ("me", PASSWORD)


def test_another_netrc_file_can_be_named(tmp_path: Path) -> None:
    netrc(tmp_path, f"machine {HOST} login me password {PASSWORD}")
    environment = {"HOME": "/nowhere", "NETRC": str(tmp_path / ".netrc")}
    assert secret(find_account(HOST, environment)) == ("me", PASSWORD)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_netrc_file_others_can_read_is_refused(mode: int, tmp_path: Path) -> None:
    environment = netrc(tmp_path, f"machine {HOST} login me password {PASSWORD}", mode)
    with pytest.raises(TidalkinError, match="chmod 600") as caught:
        find_account(HOST, environment)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("content", [f"machine {HOST} login me {PASSWORD}", f"machine {HOST} login me password"])
def test_a_damaged_netrc_file_is_refused_without_quoting_it(content: str, tmp_path: Path) -> None:
    environment = netrc(tmp_path, content)
    with pytest.raises(TidalkinError) as caught:
        find_account(HOST, environment)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "no credentials for"),
        ({"HSC_SSP_USER": "me"}, "HSC_SSP_USER is set without a password"),
        ({"HSC_SSP_PASSWORD": PASSWORD}, "HSC_SSP_PASSWORD is set without HSC_SSP_USER"),
    ],
)
def test_missing_credentials_are_one_sentence_that_names_the_places(
    environment: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(TidalkinError, match=sentence) as caught:
        find_account(HOST, {"HOME": str(tmp_path), **environment})
    for place in ("HSC_SSP_USER", "HSC_SSP_PASSWORD", "HSC_SSP_CAS_PASSWORD", f"machine {HOST}", "~/.netrc", "NETRC"):
        assert place in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_account_shows_no_password() -> None:
    account = find_account(HOST, {"HSC_SSP_USER": "me", "HSC_SSP_PASSWORD": PASSWORD})
    assert PASSWORD not in f"{account} {account!r} {vars(account)} {account.auth()!r}"


def test_refused_credentials_stop_other_jobs_until_they_are_mended(tmp_path: Path) -> None:
    wrong = find_account(HOST, {"HSC_SSP_USER": "me", "HSC_SSP_PASSWORD": PASSWORD})
    mended = find_account(HOST, {"HSC_SSP_USER": "me", "HSC_SSP_PASSWORD": "right"})
    Refusals(tmp_path, wrong).stop_if_refused()
    Refusals(tmp_path, wrong).remember()
    with pytest.raises(TidalkinError, match="were refused"):
        Refusals(tmp_path, wrong).stop_if_refused()
    Refusals(tmp_path, mended).stop_if_refused()
    (remembered,) = tmp_path.iterdir()
    assert PASSWORD not in remembered.read_text()
    assert remembered.stat().st_mode & 0o077 == 0


def test_a_refusal_is_forgotten_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = find_account(HOST, {"HSC_SSP_USER": "me", "HSC_SSP_PASSWORD": PASSWORD})
    Refusals(tmp_path, account).remember()
    monkeypatch.setattr(Refusals, "VALID_SECONDS", 0.0)
    Refusals(tmp_path, account).stop_if_refused()


@pytest.mark.parametrize(
    "note",
    ["", "{", "[]", "null", '{"time": "soon"}', '{"time": 1e12, "salt": "00", "hash": ""}', '{"time": 0, "salt": 5}'],
)
def test_a_note_of_a_refusal_that_is_torn_or_from_the_future_stops_nothing(tmp_path: Path, note: str) -> None:
    account = find_account(HOST, {"HSC_SSP_USER": "me", "HSC_SSP_PASSWORD": PASSWORD})
    (tmp_path / "refused.json").write_text(note)
    Refusals(tmp_path, account).stop_if_refused()


def test_a_refusal_that_a_wrong_clock_dates_into_the_future_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = find_account(HOST, {"HSC_SSP_USER": "me", "HSC_SSP_PASSWORD": PASSWORD})
    with monkeypatch.context() as patch:
        patch.setattr("time.time", lambda: 1e11)
        Refusals(tmp_path, account).remember()
    Refusals(tmp_path, account).stop_if_refused()
