"""Send tables and positions to other programs over SAMP.

SAMP is the messaging protocol of the Virtual Observatory. A hub passes the messages on. TOPCAT and Aladin start one if
none runs.
"""

from __future__ import annotations

from xmlrpc.client import Error

from tidalkin.errors import TidalkinError

TABLE = "table.load.votable"
POSITION = "coord.pointAt.sky"
NAME, DESCRIPTION = "tidalkin", "Look-alikes of galaxies"


def send_table(url: str, name: str) -> list[str]:
    """Ask other programs to load a VOTable.

    Parameters
    ----------
    url : str
        The address of the table, which also identifies it.
    name : str
        The name that the programs show.

    Returns
    -------
    list of str
        The names of the programs that received the message.

    Raises
    ------
    TidalkinError
        If no hub runs, or no connected program loads tables.

    Examples
    --------
    >>> send_table("http://localhost:8123/api/export.vot?start=ranking", "demo")  # doctest: +SKIP
    ['topcat']
    """
    return _notify(TABLE, {"url": url, "table-id": url, "name": name})


def send_position(ra: float, dec: float) -> list[str]:
    """Ask other programs to show a position.

    Parameters
    ----------
    ra, dec : float
        The position, ICRS, degrees.

    Returns
    -------
    list of str
        The names of the programs that received the message.

    Raises
    ------
    TidalkinError
        If no hub runs, or no connected program shows positions.

    Examples
    --------
    >>> send_position(150.1, 2.2)  # doctest: +SKIP
    ['Aladin']
    """
    return _notify(POSITION, {"ra": f"{ra:.7f}", "dec": f"{dec:.7f}"})


def _notify(message: str, params: dict[str, str]) -> list[str]:
    """Send a message to each program that understands it, and return their names."""
    # Here, since it takes a second, and most people never send.
    from pyvo.samp import SAMPHubError, SAMPIntegratedClient, SAMPProxyError, conf

    client = SAMPIntegratedClient(NAME, DESCRIPTION, callable=False)
    try:
        # Otherwise the client asks a server on the internet whether there is an internet.
        with conf.set_temp("use_internet", False):
            client.connect()
    # A hub whose file is not the default one is a missing key.
    except (SAMPHubError, SAMPProxyError, Error, OSError, KeyError):
        raise TidalkinError(
            "no SAMP hub runs on the machine of the explorer: start TOPCAT or Aladin there, or open the address of the "
            "exported VOTable by hand"
        ) from None
    try:
        receivers = list(client.get_subscribed_clients(message))
        for receiver in receivers:
            client.notify(receiver, {"samp.mtype": message, "samp.params": params})
        return [client.get_metadata(receiver).get("samp.name", receiver) for receiver in receivers] or _nobody(message)
    except (SAMPProxyError, Error, OSError) as error:
        raise TidalkinError(f"the SAMP hub failed ({error}): start TOPCAT or Aladin again") from None
    finally:
        client.disconnect()


def _nobody(message: str) -> list[str]:
    raise TidalkinError(f"no program at the SAMP hub understands {message}: start TOPCAT or Aladin")
