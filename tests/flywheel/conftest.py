"""A flywheel of tiny models: four steps of mid-training and one stage of post-training in each round."""

from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from tests.processes import short_run


@pytest.fixture
def config(tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path) -> Path:
    (tmp_path / "run.yaml").write_text(
        yaml.safe_dump({**short_run(tiny_rows, tiny_policy_dir, 4), "checkpoint": {"at_end": False}})
    )
    small = {
        "data.init_args.problems": 64,
        "training.batch_size": 32,
        "progress.init_args.data.init_args.problems": 20,
        "progress.init_args.samples": 2,
        "progress.init_args.k": [1, 2],
    }
    content = {
        "title": "a flywheel",
        "output": str(tmp_path / "out"),
        "experiment": [str(tmp_path / "run.yaml")],
        "arms": {
            "ntp": {"title": "NTP", "configs": ["baselines/ntp.yaml"]},
            "remit": {
                "title": "ReMiT",
                "inputs": ["reference"],
                "configs": ["baselines/remit.yaml"],
                "fields": {
                    "model.reference.class_path": "LiveReference",
                    "model.reference.init_args.model.path": "{reference}/model",
                },
            },
        },
        "fields": {"data.rows": str(tiny_rows), "data.seed": "{round}"},
        "stages": {"sft": {"verb": "posttrain", "configs": ["experiments/lab/sft.yaml"], "fields": small}},
        "evaluate": {"tasks": ["lab"], "limit": 20},
        "rows": {
            "accuracy": {"title": "accuracy", "task": "lab", "metric": "accuracy"},
            "dev": {"title": "pass@1", "progress": "pass@1"},
        },
        "first": "ntp",
        "judged": "remit",
        "control": "ntp",
        "goes_on_while": "leads",
        "judge": "dev",
    }
    (tmp_path / "flywheel.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "flywheel.yaml"
