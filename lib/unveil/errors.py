"""The one exception that users are meant to read."""


class UnveilError(Exception):
    """Bad input, said in one line: what is wrong, with which file, and what to do.

    The command line prints the message alone and exits with status 1; everywhere else it is an ordinary exception.
    """
