"""``python -m remit_lit.lab build --seed 0 --output DIR``: the lab's models from nothing."""

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence

from remit_lit.errors import ConfigError


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m remit_lit.lab", description="The embedded lab.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    build_verb = verbs.add_parser("build", help="train base, mid, sft and reference models from nothing")
    build_verb.add_argument("--seed", type=int, default=0, help="of weights, documents, problems and samples")
    build_verb.add_argument("--output", required=True, help="directory to write the models to")
    arguments = parser.parse_args(args)

    import datasets
    import transformers

    from remit_lit.recipes.lab_models import build

    for category in (UserWarning, FutureWarning, DeprecationWarning):
        warnings.simplefilter("ignore", category)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    try:
        build(arguments.output, arguments.seed)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
