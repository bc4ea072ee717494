"""The account at the HSC archive, and how its password stays secret.

The password lives in a pydantic ``SecretStr``, whose text and representation are stars, until a request needs it. It is
also made known to `tidalkin.redaction`, so that no message can hold it. No message in this module quotes a value that
was read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import netrc
import os
import secrets
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from tidalkin.atomic import atomic_path
from tidalkin.errors import TidalkinError
from tidalkin.redaction import keep_secret

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

# HSC_SSP_CAS_PASSWORD is what downloadCutout.py and hscSspQuery3.py read (their option --password-env).
USER_VARIABLE = "HSC_SSP_USER"
PASSWORD_VARIABLES = ("HSC_SSP_PASSWORD", "HSC_SSP_CAS_PASSWORD")


@dataclass(frozen=True)
class Account:
    """A user of the archive; printing it shows no password."""

    user: str
    password: SecretStr
    found_in: str
    """Where the credentials were found, for messages."""

    def __post_init__(self) -> None:
        password = self.password.get_secret_value()
        # A request carries the password in the second form (RFC 7617, section 2).
        keep_secret(password, base64.b64encode(f"{self.user}:{password}".encode()).decode())

    def auth(self) -> httpx.BasicAuth:
        """Return the account in the form that ``httpx`` sends."""
        import httpx

        return httpx.BasicAuth(self.user, self.password.get_secret_value())


def credential_places(host: str) -> str:
    """Return the places where credentials are looked for, as part of a sentence.

    Examples
    --------
    >>> credential_places("example.org")
    'the environment variables HSC_SSP_USER and HSC_SSP_PASSWORD (or HSC_SSP_CAS_PASSWORD), then a line
    `machine example.org login USER password PASSWORD` in ~/.netrc (or the file $NETRC names)'
    """
    return (
        f"the environment variables {USER_VARIABLE} and {PASSWORD_VARIABLES[0]} (or {PASSWORD_VARIABLES[1]}), "
        f"then a line `machine {host} login USER password PASSWORD` in ~/.netrc (or the file $NETRC names)"
    )


def find_account(host: str, environment: Mapping[str, str] | None = None) -> Account:
    """Find the credentials for a host in the environment, or else in the netrc file.

    Parameters
    ----------
    host : str
        The archive's host name, like ``hsc-release.mtk.nao.ac.jp``.
    environment : mapping of str to str, optional
        The environment variables; by default, those of the process.

    Raises
    ------
    TidalkinError
        If there are none or only half of them, or if others can read the netrc file.

    Examples
    --------
    >>> environment = {"HSC_SSP_USER": "ada", "HSC_SSP_PASSWORD": "correct horse"}
    >>> find_account("hsc-release.mtk.nao.ac.jp", environment)
    Account(user='ada', password=SecretStr('**********'), found_in='HSC_SSP_USER and HSC_SSP_PASSWORD')
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
        f"no credentials for {host}{': ' + half if half else ''}; they are looked for in {credential_places(host)}"
    )


def _from_netrc(host: str, environment: Mapping[str, str], user: str) -> Account | None:
    """Read the netrc file's entry for a host, if there is one for this user."""
    path = Path(environment.get("NETRC") or Path(environment.get("HOME", "~")).expanduser() / ".netrc")
    if not path.is_file():
        return None
    if os.name == "posix" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise TidalkinError(f"{path} holds passwords and others can read it: run `chmod 600 {path}`")
    try:
        entry = netrc.netrc(path).authenticators(host)
    except netrc.NetrcParseError as error:
        # The parser's own message quotes the token at fault, which may be the password.
        raise TidalkinError(f"{path} cannot be read as a netrc file: correct its line {error.lineno}") from None
    except UnicodeDecodeError:
        raise TidalkinError(f"{path} cannot be read as a netrc file: it is not UTF-8 text") from None
    except OSError as error:
        raise TidalkinError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
    if entry is None or (user and entry[0] != user):
        return None
    if not entry[0] or not entry[2]:
        raise TidalkinError(f"{path} has an entry for {host} without login or password: complete it")
    return Account(entry[0], SecretStr(entry[2]), str(path))


class Refusals:
    """Memory, shared by the jobs of a user, that a server refused the credentials.

    The other jobs stop before they send the same credentials, since some servers lock an account after a few wrong
    passwords. Only a salted scrypt hash of the credentials is kept, in the user's own cache directory. Corrected
    credentials are used at once.

    Parameters
    ----------
    folder : Path
        State about the server that this user's processes share.
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
        """Stop if the server refused the same credentials a moment ago.

        A note that cannot be read, or that comes from the future, is ignored.

        Raises
        ------
        TidalkinError
            If they were refused.
        """
        try:
            note = json.loads(self._path.read_text())
            seconds = time.time() - float(note["time"])
            salt, refused = bytes.fromhex(note["salt"]), str(note["hash"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be read and is ignored (%s)", self._path, type(error).__name__)
            return
        if 0 <= seconds < self.VALID_SECONDS and self._hash(salt) == refused:
            raise TidalkinError(
                f"the credentials found in {self.account.found_in} were refused {seconds:.0f} s ago: correct them, or "
                "try again in a minute"
            )
