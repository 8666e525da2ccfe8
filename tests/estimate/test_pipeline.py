"""The whole pipeline by arithmetic: against other formulas, a simulation, and the page that shows it."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.cli.dispatch import main
from remit_lit.estimate.pipeline import Scale, daly_interval, failures, files, fit_seconds, stages
from remit_lit.estimate.rates import Rates
from tests.processes import ROOT

HOUR = 3600
SCALE = Scale(
    tokens=5e10,
    parameters=10**9,
    trained=10**9,
    step_flops=8e9,
    forward_flops=2e9,
    tokens_per_step=2 * 10**6,
    sequence_length=4096,
    checkpoint=14e9,
    gpu_flops=4e14,
)


def test_each_stage_is_bound_by_its_slowest() -> None:
    found = stages(SCALE, Rates(tokenized=1e5, prepare_cores=10, disk=1e12), 64)
    assert found["prepare"].bound == "cores" and found["prepare"].hours == pytest.approx(5e10 / 1e6 / HOUR)
    assert found["score"].bound == "FLOPs" and found["score"].hours == pytest.approx(5e10 * 2e9 / (64 * 4e14) / HOUR)
    assert found["fit"].bound == "FLOPs" and found["fit"].hours == pytest.approx(5e10 * 8e9 / (64 * 4e14) / HOUR)
    slow_disk = stages(SCALE, Rates(disk=1e6), 64)
    assert {slow_disk[stage].bound for stage in ("prepare", "score", "fit")} == {"disk"}
    assert slow_disk["prepare"].hours == pytest.approx(5e10 * 4 / 1e6 / HOUR)
    assert stages(SCALE, Rates(loaded=1), 64)["fit"].bound == "loading"


def test_more_gpus_are_in_vain_once_gradients_bound_the_run() -> None:
    """A step of 25,000 of them: each sends and receives twice its gradients of 4 bytes, whatever the number."""
    rates = Rates(network=50e9, nvlink=450e9)
    by_number = {gpus: fit_seconds(SCALE, rates, gpus)["network"] for gpus in (1, 8, 4096)}
    assert by_number[1] == 0
    assert by_number[8] == pytest.approx(25_000 * 2 * 7 / 8 * 4e9 / 450e9)
    assert by_number[4096] == pytest.approx(25_000 * 2 * 4e9 / 50e9, rel=1e-3)
    assert stages(SCALE, rates, 4096)["fit"].bound == "network"
    assert stages(SCALE, rates, 8192)["fit"].hours == pytest.approx(stages(SCALE, rates, 4096)["fit"].hours, rel=1e-3)


def test_sampling_reads_the_weights_for_each_token_of_a_batch() -> None:
    rates = Rates(gpu_bandwidth=3e12, sampling_share=0.5, sampled_at_once=10, sampled_tokens=7.5e6, posttrain_tokens=1)
    after = stages(SCALE, rates, 8)["posttrain"]
    assert after.bound == "sampling"
    assert after.hours == pytest.approx(7.5e6 / (10 * 3e12 * 0.5 / 2e9) / HOUR, rel=1e-3)
    assert after == stages(SCALE, rates, 512)["posttrain"]


@pytest.mark.parametrize(("write", "between"), [(4.0, 350_000.0), (60.0, 20_000.0), (600.0, 6_000.0)])
def test_no_other_interval_loses_less(write: float, between: float) -> None:
    """Of Daly's complete model, searched over intervals; within the 0.1 % that his expansion leaves."""
    intervals = np.geomspace(write / 10, between * 3, 20_000)
    lost = np.expm1((intervals + write) / between) / intervals
    interval = daly_interval(write, between)
    assert math.expm1((interval + write) / between) / interval < lost.min() * 1.001
    assert daly_interval(1e-3, 1e6) == pytest.approx(math.sqrt(2 * 1e-3 * 1e6), rel=1e-2)  # Young's


@pytest.mark.parametrize(("between", "printed", "digits"), [(24 * 60, "117", 0), (6 * 60, "57", 0), (15, "9.1", 1)])
def test_the_interval_is_the_published_one(between: float, printed: str, digits: int) -> None:
    """In minutes, with checkpoints of 5, to the last digit printed: Daly's figures 3 to 5."""
    assert f"{daly_interval(5, between):.{digits}f}" == printed


def test_the_hours_with_failures_are_those_of_runs_that_fail() -> None:
    rates = Rates(gpu_hours_between_failures=512.0, restart_seconds=600, disk=1e8)  # a failure an hour
    found = failures(SCALE, rates, 512, 20 * HOUR)
    assert (found.between, found.write) == (HOUR, 140)
    random, piece, taken = np.random.default_rng(0), found.interval + found.write, 0.0
    pieces = 4_000
    for _ in range(pieces):
        while (lasted := random.exponential(HOUR)) < piece:
            taken += lasted
            while (again := random.exponential(HOUR)) < rates.restart_seconds:
                taken += again
            taken += rates.restart_seconds
        taken += piece
    assert found.seconds / (20 * HOUR / found.interval) == pytest.approx(taken / pieces, rel=0.05)
    assert found.number == found.seconds / HOUR


def test_files_are_counted_as_they_are_written() -> None:
    lying = files(replace(SCALE, tokens=4096 * 1024 * 10.5))
    assert lying["a score column"] == (4096 * 1024 * 10.5 * 2, 11)
    assert lying["rows"] == (4096 * 1024 * 10.5 * 4, 1)


OLMO = {
    "model_type": "olmo2",
    "architectures": ["Olmo2ForCausalLM"],
    "vocab_size": 100352,
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "max_position_embeddings": 4096,
    "pad_token_id": 100277,
}


def olmo_config(directory: Path) -> str:
    """The shapes and the batch of experiments/olmo2_1b.yaml, without its weights and data."""
    (directory / "config.json").write_text(json.dumps(OLMO))
    spec = {"path": str(directory)}
    documents = {"class_path": "LabDocuments", "init_args": {"kind": "web", "documents": 9}}
    config: dict[str, Any] = {
        "model": {
            "policy": spec,
            "weighting": {"class_path": "ReMiT"},
            "reference": {"class_path": "LiveReference", "init_args": {"model": {**spec, "dtype": "bfloat16"}}},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-4}},
            "horizon": {"steps": 23852},
        },
        "data": {
            "rows": str(directory / "none"),
            "batch_size": 4,
            "document_attention": False,
            "prepare": {"tokenizer": "lab/base", "sequence_length": 4096, "sources": {"web": documents}},
        },
        "trainer": {"devices": 8, "accumulate_grad_batches": 16, "precision": "bf16-mixed"},
    }
    path = directory / "olmo.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


@pytest.mark.slow
def test_the_page_shows_what_the_command_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    page = (ROOT / "docs" / "guides" / "scale.md").read_text()
    shown = re.search(r"estimate --config experiments/olmo2_1b.yaml (--pipeline.*)\n```\n\n```text\n([^`]+)```", page)
    assert shown is not None
    main(["estimate", "--config", olmo_config(tmp_path), *shown[1].split()])
    assert capsys.readouterr().out.strip() == shown[2].strip()


def test_each_rate_says_where_it_is_from() -> None:
    sources = {name: source for name, _, source in Rates(disk=1e8).sources()}
    assert sources["disk"] == "given on the command line or in a config"
    assert all(source.startswith(("measured", "assumed", "NVIDIA", "Llama 3", "given")) for source in sources.values())


@pytest.mark.parametrize(
    ("argument", "said"),
    [("--rates.disk=0", "rates.disk: got 0"), ("--tokens=[0]", "tokens: got 0"), ("--rates.disc=1", "did you mean")],
)
def test_a_wrong_rate_is_refused(argument: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["estimate", "--config", olmo_config(tmp_path), "--pipeline=true", argument])
    assert stop.value.code == 2 and said in capsys.readouterr().err
