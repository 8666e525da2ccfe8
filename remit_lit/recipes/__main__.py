"""``python -m remit_lit.recipes``: fetch and make what ``experiments/real_smollm2.yaml`` and its tables read."""

import sys
from pathlib import Path

import datasets
from transformers.utils import logging as transformers_logging

from remit_lit.benchmarks.fetch import FetchError
from remit_lit.errors import ConfigError, DataError
from remit_lit.recipes.real_inputs import make_inputs

EXPERIMENT = Path("experiments/real_smollm2.yaml")


def main() -> None:
    """Make the inputs. A user's mistake ends with one message and exit code 2."""
    transformers_logging.disable_progress_bar()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        make_inputs(EXPERIMENT)
    except (ConfigError, DataError, FetchError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
