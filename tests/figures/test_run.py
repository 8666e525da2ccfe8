"""A figure from nothing: runs with a live reference, and with one whose scores a step of the table has cached."""

import csv
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.cli.dispatch import main
from tests.processes import short_run

pytest.importorskip("matplotlib")


@pytest.mark.slow
def test_cached_and_live_references_give_the_same_losses(
    tiny_policy_dir: Path, tiny_reference_dir: Path, tiny_tokenizer_dir: Path, tmp_path: Path
) -> None:
    run = short_run(tmp_path, tiny_policy_dir, 4)
    run["trainer"]["log_every_n_steps"] = 1
    sources = {"web": {"class_path": "LabDocuments", "init_args": {"kind": "web", "documents": 60}}}
    prepare = {"tokenizer": str(tiny_tokenizer_dir), "sequence_length": 132, "sources": sources}
    run["data"] = {"batch_size": 2, "num_workers": 0, "prepare": prepare}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**run, "checkpoint": {"at_end": False}}))
    live = {"class_path": "LiveReference", "init_args": {"model": {"path": str(tiny_reference_dir)}}}
    cached = {"class_path": "CachedReference", "init_args": {"column": "nll"}}
    scored = {"rows": "{ntp.rows}", "model.path": str(tiny_reference_dir), "column": "nll", "dtype": "float32"}
    content: dict[str, Any] = {
        "title": "live and cached",
        "output": str(tmp_path / "figure"),
        "experiment": [str(tmp_path / "run.yaml")],
        "fields": {"data.prepare.seed": "{seed}"},
        "methods": {
            "ntp": {"title": "NTP", "configs": ["baselines/ntp.yaml"]},
            "live": {"title": "live", "configs": ["baselines/remit.yaml"], "fields": {"model.reference": live}},
        },
        "rows": {"tokens": {"title": "tokens", "cost": "tokens"}},
        "figure": {
            "series": ["live", "cached"],
            "before": {"scored": {"verb": "score", "fields": {**scored, "accelerator": "cpu"}, "inputs": ["ntp"]}},
            "methods": {
                "cached": {
                    "title": "cached",
                    "configs": ["baselines/remit.yaml"],
                    "fields": {"data.rows": "{scored}", "model.reference": cached},
                    "inputs": ["scored"],
                }
            },
            "panels": {"loss": {"title": "loss", "over": "step", "measure": "train/loss"}},
        },
    }
    (tmp_path / "figure.yaml").write_text(yaml.safe_dump(content))
    main(["figure", f"--config={tmp_path}/figure.yaml", f"--cells={tmp_path}/cells"])
    with open(tmp_path / "figure" / "data.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))
    losses = {title: [line["y"] for line in lines if line["series"] == title] for title in ("live", "cached")}
    assert len(losses["live"]) == 4 and all(losses["live"]) and losses["live"] == losses["cached"]
