"""Weights are averaged by what tokens are, as the documents that were written say."""

import csv

import pytest
import torch

from remit_lit.lab.task import TABLES
from remit_lit.lab.tokenizer import BOS, EOS, lab_vocabulary
from remit_lit.losses import IGNORE_INDEX
from remit_lit.training.callbacks.lab_weights import mean_weights
from tests.processes import Run, short_run

STEPS = [("A", 2), ("F", 5), ("A", 0), ("D", 1), ("F", 4)]


def trace(wrong: set[int]) -> str:
    """A problem from 3 on, whose results are one too high at some steps."""
    value, written = 3, ""
    for step, (operator, operand) in enumerate(STEPS):
        value = TABLES[operator][value][operand]
        written += f"{operator}{operand}{(value + 1) % 6 if step in wrong else value}"
    return "Q:3" + "".join(f"{operator}{operand}" for operator, operand in STEPS) + f"={written}#{written[-1]}"


def test_every_kind_has_the_mean_of_its_weights():
    document = trace({1, 4})
    row = f"{BOS}{document}{EOS}{BOS}abcQ:1={EOS}"
    ids = torch.tensor([[lab_vocabulary()[character] for character in row] + [IGNORE_INDEX]])
    weights = torch.arange(ids.numel(), dtype=torch.float32)[None]
    source_ids = torch.tensor([[0] * (len(document) + 2) + [1] * (ids.numel() - len(document) - 2)])
    start = 1 + document.index("=") + 1
    places = [start + 3 * step + 2 for step in range(5)]
    found = mean_weights(weights, ids, source_ids, ["correct", "web"])
    assert found == pytest.approx(
        {
            "question": (sum(range(1, start)) + start + 15) / start,
            "correct_result": (places[0] + places[2] + places[3]) / 3,
            "wrong_result": (places[1] + places[4]) / 2,
            "operand": sum(places) / 5 - 1.5,
            "answer": start + 16,
            "web": sum(range(len(document) + 2, len(row))) / (len(row) - len(document) - 2),
            "operator_0": (places[0] + places[2]) / 2,
            "operator_3": places[3],
        }
    )


def test_a_run_logs_them(tmp_path, tiny_rows, tiny_policy_dir):
    config = short_run(tiny_rows, tiny_policy_dir, 2, [{"class_path": "LabWeights"}])
    config["trainer"]["log_every_n_steps"] = 1
    config["model"]["weighting"] = {"class_path": "remit_lit.lab.oracle.LabOracle", "init_args": {"strength": 0.5}}
    run = Run(tmp_path, config).finish()
    with (run.folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("lab/weight_correct_result")]
    assert len(rows) == 2
    assert {row["lab/weight_correct_result"] for row in rows} == {"1.5"} and {
        row["lab/weight_web"] for row in rows
    } == {"1.0"}
