"""``python -m remit_lit.recipes RECIPE``: the lab's models, statistics, times, memory, or the real model's inputs."""

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from remit_lit.benchmarks.fetch import FetchError
from remit_lit.errors import ConfigError, DataError

EXPERIMENT = Path("experiments/real_smollm2.yaml")
CLAIM, CLAIM_SFT = Path("experiments/real_claim.yaml"), Path("experiments/posttrain/smollm2_math_sft.yaml")


def main(args: Sequence[str] | None = None) -> None:
    """Make the models or inputs. A user's mistake ends with one message and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m remit_lit.recipes", description=__doc__)
    recipes = parser.add_subparsers(dest="recipe", required=True)
    lab = recipes.add_parser("lab", help="train the lab's base, mid-trained, SFT and reference models from scratch")
    lab.add_argument("--seed", type=int, default=0, help="decides the weights, documents, problems and samples")
    lab.add_argument("--output", required=True, help="directory to write the models to")
    recipes.add_parser("real", help=f"fetch SmolLM2-135M and benchmark texts, and make what {EXPERIMENT} reads")
    recipes.add_parser("real_claim", help=f"fetch the same, fine-tune the reference, and make what {CLAIM} reads")
    statistics = recipes.add_parser(
        "calibrate", help="whether tests and intervals of a table of equal methods are right"
    )
    statistics.add_argument("--seeds", type=Path, required=True, help="seeds.csv of that table")
    statistics.add_argument("--studies", type=int, default=1000, help="how many studies to redraw from its runs")
    seconds = recipes.add_parser("seconds", help="keep what jobs took here as what a dry run expects of them elsewhere")
    seconds.add_argument("--cells", type=Path, default=Path("runs/cells"), help="folder of the jobs")
    memory = recipes.add_parser(
        "memory", help="what a step of each method of a lab table holds, as estimate computes it"
    )
    memory.add_argument("--table", type=Path, required=True, help="the table's YAML file")
    arguments = parser.parse_args(args)
    _quiet_libraries()
    try:
        if arguments.recipe == "lab":
            from remit_lit.recipes.lab_models import build

            build(arguments.output, arguments.seed)
        elif arguments.recipe == "calibrate":
            from remit_lit.recipes.lab_calibration import report

            print(report(arguments.seeds, arguments.studies))
        elif arguments.recipe == "memory":
            from remit_lit.recipes.lab_memory import report as memory_report

            print(memory_report(arguments.table))
        elif arguments.recipe == "seconds":
            from remit_lit.recipes.job_seconds import calibrate

            calibrate(arguments.cells).write()
        else:
            from remit_lit.recipes.real_inputs import make_claim_inputs, make_inputs

            if arguments.recipe == "real":
                make_inputs(EXPERIMENT)
            else:
                make_claim_inputs(CLAIM, CLAIM_SFT)
    except (ConfigError, DataError, FetchError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _quiet_libraries() -> None:
    import datasets
    import transformers

    for category in (UserWarning, FutureWarning, DeprecationWarning):
        warnings.simplefilter("ignore", category)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    transformers.utils.logging.disable_progress_bar()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()


if __name__ == "__main__":
    main()
