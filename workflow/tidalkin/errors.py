"""Errors that a user can correct: one sentence, without a traceback."""

from __future__ import annotations

from tidalkin.redaction import redact


class TidalkinError(Exception):
    """An error that the user can correct.

    The message is one sentence that names the file, key or object, its fault and the fix. Stages and the command line
    print it without a traceback and exit with a status other than zero. Known passwords in it are replaced by stars.

    Parameters
    ----------
    message : str
        The sentence.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error's message, or else its name.

    Libraries add details in further lines. A sentence for the user quotes the first one only. For an error of the
    operating system, it is the reason without the file, which the sentence names already.

    Examples
    --------
    >>> first_line(ValueError("Couldn't deserialize thrift\nDeserializing page header failed"))
    "Couldn't deserialize thrift"
    >>> first_line(KeyError())
    'KeyError'
    >>> first_line(FileNotFoundError(2, "No such file or directory", "galaxies.csv"))
    'No such file or directory'
    """
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.strip() or type(error).__name__).splitlines()[0]
