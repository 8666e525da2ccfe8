"""``python -m remit_lit.real --config EXPERIMENT.yaml --arm ntp=NTP.yaml --arm remit=REMIT.yaml``."""

import argparse
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from transformers.utils import logging as transformers_logging

from remit_lit.errors import ConfigError, DataError
from remit_lit.evaluation.fetch import FetchError
from remit_lit.real.study import Study, run_study


def main(arguments: list[str] | None = None) -> None:
    """Run the study. A user's mistake ends with one message and exit code 2."""
    given = vars(_parser().parse_args(arguments))
    transformers_logging.disable_progress_bar()
    try:
        study = Study(arms=_arms(given.pop("arm")), **given)
        run_study(study, Console(width=None if sys.stdout.isatty() else 120))
    except (ConfigError, DataError, FetchError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except subprocess.CalledProcessError as error:
        raise SystemExit(error.returncode) from None  # the command has said why


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m remit_lit.real",
        description="Mid-train a degraded SmolLM2-135M against the original on MATH; print held-out bits per byte.",
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the experiment")
    parser.add_argument(
        "--arm",
        action="append",
        required=True,
        metavar="NAME[=YAML]",
        help="an arm and the config laid over the experiment for it; the first is the baseline of the others",
    )
    parser.add_argument("--cache", type=Path, default=Path(".cache/real"), help="wheels, models, rows (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("runs/real"), help="runs and results.json (%(default)s)")
    parser.add_argument("--items", type=int, default=60, help="held-out items a benchmark (%(default)s)")
    parser.add_argument("--noise", type=float, default=0.08, help="noise over each matrix's own std (%(default)s)")
    parser.add_argument("--noise_seed", type=int, default=0, help="seed of the noise (%(default)s)")
    parser.add_argument("--steps", type=int, default=None, help="optimizer steps instead of the experiment's")
    return parser


def _arms(given: list[str]) -> dict[str, Path | None]:
    arms: dict[str, Path | None] = {}
    for text in given:
        name, _, path = text.partition("=")
        if not name or name in arms:
            raise ConfigError(f"arm: got {text!r}; give every arm a name of its own, as NAME or NAME=FILE.yaml")
        arms[name] = Path(path) if path else None
    return arms


if __name__ == "__main__":
    main()
