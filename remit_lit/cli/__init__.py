"""The command line: ``python -m remit_lit VERB``, which is ``remit_lit VERB``."""

from remit_lit.cli.dispatch import main

__all__ = ["main"]
