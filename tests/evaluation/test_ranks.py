"""Evaluation on two ranks: real processes on CPUs, against one process."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval.api.instance import Instance
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from remit_lit.benchmarks.offline import offline_folder
from remit_lit.evaluation.evaluate import evaluate
from remit_lit.evaluation.isolation import seeded
from remit_lit.evaluation.results import Evaluation
from remit_lit.evaluation.windowed_model import WindowedModel
from remit_lit.models.spec import ModelSpec
from tests.distributed.test_launching import free_port
from tests.processes import ROOT, SECONDS, kill
from tests.warm import WarmProcess


class Asked:
    """An evaluation by one process, and the command that repeats it.

    Args:
        model: a directory, or an embedded name.
        tasks: of it.
        folder: for files.
        options: of the verb.
    """

    def __init__(self, model: str, tasks: Sequence[str], folder: Path, **options: Any) -> None:
        settings = {"batch_size": 4, "accelerator": "cpu", **options}
        self.alone = Evaluation.read(evaluate(ModelSpec(model), [*tasks], str(folder / "alone.json"), **settings))
        self.output, self.printed = folder / "two.json", folder / "printed.txt"
        fields = {"model.path": model, "tasks": ",".join(tasks), "output": self.output, **settings}
        self.command = ["evaluate", *(f"--{name}={value}" for name, value in fields.items())]

    def check(self) -> None:
        """What two ranks wrote is what one process found."""
        two = Evaluation.read(self.output)
        assert two.facts["ranks"] == 2 and self.alone.facts["ranks"] == 1
        assert two.facts["model"] == self.alone.facts["model"]
        assert two.tasks.keys() == self.alone.tasks.keys()
        for name, expected in self.alone.tasks.items():
            found = two.tasks[name]
            assert found.items == expected.items and found.not_run == expected.not_run
            assert found.metrics.keys() == expected.metrics.keys()
            for metric, values in expected.metrics.items():
                np.testing.assert_allclose(found.metrics[metric].outcomes, values.outcomes, rtol=1e-4, atol=1e-6)
            cut = "truncated_contexts"
            assert found.settings.get(cut) == expected.settings.get(cut)

    def repeat(self) -> None:
        """Have the verb start two ranks, and compare what they found."""
        process = WarmProcess([*self.command, "--devices=2"], self.printed, {"PYTHONPATH": str(ROOT)})
        try:
            assert process.wait(SECONDS) == 0, self.printed.read_text()
        finally:
            kill(process)
        self.check()
        assert self.printed.read_text().count(f"evaluate: {self.output}") == 1


def test_two_ranks_have_the_outcomes_of_one(byte_model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps({"text": "ab" * n}) + "\n" for n in (3, 400, 30)))
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": "abc"}) + "\n")  # a request for two ranks
    Asked(str(byte_model_dir), [str(tmp_path / name) for name in ("mine.jsonl", "one.jsonl")], tmp_path).repeat()


@pytest.mark.slow
def test_two_ranks_have_the_items_and_outcomes_of_one_on_benchmarks(
    cache: Path, byte_model_dir: Path, tmp_path: Path
) -> None:
    offline_folder(cache)
    tasks = ["offline_arc_challenge", "offline_gsm8k_bpb", "offline_triviaqa", "offline_mbpp"]
    asked = Asked(str(byte_model_dir), tasks, tmp_path, cache=str(cache), max_length=120)
    asked.repeat()
    assert asked.printed.read_text().count("not run: offline_mbpp: it runs code") == 1


def test_samples_of_one_prompt_differ_between_ranks(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"until": [], "max_gen_toks": 16, "do_sample": True, "temperature": 1.0}
    request = Instance("generate_until", {}, ("Who?", options), 0)
    subject = WindowedModel(model, tokenizer, 1, None, shared=True)
    answers = []
    for number in range(2):
        monkeypatch.setattr("remit_lit.evaluation.windowed_model.rank", lambda number=number: number)
        with seeded(0):
            answers += subject.generate_until([request])
    assert answers[0] != answers[1]


@pytest.mark.slow
def test_torchrun_starts_them(tmp_path: Path) -> None:
    asked = Asked("lab/base", ["lab"], tmp_path, limit=20)
    launcher = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node=2", f"--master-port={free_port()}"]
    command = [*launcher, "-m", "remit_lit", *asked.command]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    asked.check()
    assert done.stdout.count(f"evaluate: {asked.output}") == 1
