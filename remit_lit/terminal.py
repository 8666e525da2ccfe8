"""The width of what is printed: that of the terminal, and one that suits a log file elsewhere."""

import sys

from rich.console import Console

_LOG_COLUMNS = 120


def console() -> Console:
    """A console as wide as the terminal, and of 120 columns in a file.

    Where standard output is no terminal, rich would fold tables at 80 columns.
    """
    return Console(width=None if sys.stdout.isatty() else _LOG_COLUMNS)
