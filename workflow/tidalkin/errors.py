"""The one kind of error a user is meant to read: a sentence, not a traceback."""


class TidalkinError(Exception):
    """Something the user can mend.

    The message is one sentence that names the file, key or object, what is wrong with it, and the mend.
    Stages and the command line print it without a traceback and exit non-zero.
    """
