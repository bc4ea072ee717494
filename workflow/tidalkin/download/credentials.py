"""The account at the HSC archive: where its credentials are looked for, and how they stay out of everything written.

The password lives in a pydantic ``SecretStr``, whose text and representation are stars, and leaves it only into the
authorization header of a request. No message in this module carries a value that was read.
"""

from __future__ import annotations

import hashlib
import json
import netrc
import os
import secrets
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import SecretStr

from tidalkin.atomic import atomic_path
from tidalkin.errors import TidalkinError

# HSC_SSP_CAS_PASSWORD is what downloadCutout.py and hscSspQuery3.py read (their option --password-env).
USER_VARIABLE = "HSC_SSP_USER"
PASSWORD_VARIABLES = ("HSC_SSP_PASSWORD", "HSC_SSP_CAS_PASSWORD")


@dataclass(frozen=True)
class Account:
    """A user of the archive; printing it shows no password."""

    user: str
    password: SecretStr
    found_in: str
    """Where the credentials came from, for messages."""

    def auth(self) -> httpx.BasicAuth:
        """The account as ``httpx`` sends it."""
        return httpx.BasicAuth(self.user, self.password.get_secret_value())


def where_looked(host: str) -> str:
    """The places credentials are looked for, as part of a sentence."""
    return (
        f"the environment variables {USER_VARIABLE} and {PASSWORD_VARIABLES[0]} (or {PASSWORD_VARIABLES[1]}), "
        f"then a line `machine {host} login USER password PASSWORD` in ~/.netrc (or the file $NETRC names)"
    )


def find_account(host: str, environment: Mapping[str, str] | None = None) -> Account:
    """Find the credentials for ``host`` in the environment, else in the netrc file.

    Parameters
    ----------
    host : str
        The archive's host name, like ``hsc-release.mtk.nao.ac.jp``.
    environment : mapping of str to str, optional
        The environment variables; the process's own if not given.

    Raises
    ------
    TidalkinError
        Where there are none, only half of them, or the netrc file can be read by others.
    """
    environment = os.environ if environment is None else environment
    user = environment.get(USER_VARIABLE, "")
    found = next((name for name in PASSWORD_VARIABLES if environment.get(name)), None)
    if user and found:
        return Account(user, SecretStr(environment[found]), f"{USER_VARIABLE} and {found}")
    account = _from_netrc(host, environment, user)
    if account:
        return account
    half = f"{USER_VARIABLE} is set without a password" if user else ""
    half = f"{found} is set without {USER_VARIABLE}" if found else half
    raise TidalkinError(
        f"no credentials for {host}{': ' + half if half else ''}; they are looked for in {where_looked(host)}"
    )


def _from_netrc(host: str, environment: Mapping[str, str], user: str) -> Account | None:
    """The account of the netrc file's entry for ``host``, if there is one (and it is ``user``'s, if given)."""
    path = Path(environment.get("NETRC") or Path(environment.get("HOME", "~")).expanduser() / ".netrc")
    if not path.is_file():
        return None
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise TidalkinError(f"{path} holds passwords and others can read it: run `chmod 600 {path}`")
    try:
        entry = netrc.netrc(path).authenticators(host)
    except netrc.NetrcParseError as error:
        # The parser's own message quotes the token it stumbled over, which may be the password.
        raise TidalkinError(f"{path} cannot be read as a netrc file: correct its line {error.lineno}") from None
    except UnicodeDecodeError:
        raise TidalkinError(f"{path} cannot be read as a netrc file: it is not UTF-8 text") from None
    if entry is None or (user and entry[0] != user):
        return None
    if not entry[0] or not entry[2]:
        raise TidalkinError(f"{path} has an entry for {host} without login or password: complete it")
    return Account(entry[0], SecretStr(entry[2]), str(path))


class Refusals:
    """What jobs tell each other when the server refused the credentials: the others stop before they ask too.

    Only a salted scrypt hash of the credentials is kept, in the user's own cache directory, so that corrected
    credentials are used at once.

    Parameters
    ----------
    folder : Path
        What this user's processes share about the server.
    account : Account
        The credentials in use.
    """

    VALID_SECONDS = 60.0

    def __init__(self, folder: Path, account: Account) -> None:
        self._path = folder / "refused.json"
        self.account = account

    def _hash(self, salt: bytes) -> str:
        user = self.account.user.encode()
        return hashlib.scrypt(
            self.account.password.get_secret_value().encode(), salt=salt + user, n=2**14, r=8, p=1
        ).hex()

    def remember(self) -> None:
        """Note that the server refused the credentials."""
        salt = secrets.token_bytes(16)
        with atomic_path(self._path) as path:
            path.touch(mode=0o600)
            path.write_text(json.dumps({"time": time.time(), "salt": salt.hex(), "hash": self._hash(salt)}))

    def stop_if_refused(self) -> None:
        """Stop if another job's request was refused with the same credentials a moment ago.

        Raises
        ------
        TidalkinError
            Which says so.
        """
        try:
            refused = json.loads(self._path.read_text())
        except FileNotFoundError:
            return
        seconds = time.time() - refused["time"]
        if seconds < self.VALID_SECONDS and self._hash(bytes.fromhex(refused["salt"])) == refused["hash"]:
            raise TidalkinError(
                f"the credentials found in {self.account.found_in} were refused {seconds:.0f} s ago: correct "
                "them, or try again in a minute"
            )
