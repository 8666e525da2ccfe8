"""Post-training on two ranks: real processes on CPUs, against one process and against what their rewards noted."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec
from remit_lit.posttraining.dev_problems import DevProgress
from remit_lit.posttraining.dpo import DPO, MakePairs
from remit_lit.posttraining.examples import LabProblems
from remit_lit.posttraining.rlvr import RLVR
from remit_lit.posttraining.run_folder import newest_checkpoint
from remit_lit.posttraining.sft import SFT
from remit_lit.posttraining.stage import Stage
from remit_lit.runs.configuration import configuration
from remit_lit.runs.lock import held
from tests.distributed.test_launching import free_port
from tests.posttraining.conftest import training
from tests.posttraining.test_posttrain import weights
from tests.posttraining.test_rlvr import metrics
from tests.posttraining.test_sft import record
from tests.processes import ROOT, SECONDS, furthest, kill
from tests.warm import WarmProcess

HERE = "tests.posttraining.rewards"
DEV = LabProblems(6, split="dev")
STAGES: dict[str, Stage] = {
    "sft": SFT(),
    "dpo": DPO(MakePairs(f"{HERE}.has_digit", max_new_tokens=3, batch_size=16)),
    "rlvr": RLVR(f"{HERE}.has_digit", max_new_tokens=3, samples=4),
}


class Ranks:
    """`posttrain` on two ranks, as a launcher starts them.

    Args:
        directory: for the config, the run folder, and what each rank prints and notes.
        model: the model to start from.
        changes: of the config.
    """

    def __init__(self, directory: Path, model: Path, **changes: Any) -> None:
        settings = {
            "model": ModelSpec(str(model)),
            "data": LabProblems(32),
            "training": training(),
            "run_dir": str(directory / "run"),
            **changes,
        }
        self.directory, self.folder = directory, directory / "run"
        self.config = directory / "config.yaml"
        directory.mkdir(exist_ok=True)
        self.config.write_text(yaml.safe_dump({name: configuration(value) for name, value in settings.items()}))

    @contextmanager
    def started(self, *arguments: str, **variables: str) -> Iterator[list[WarmProcess]]:
        """The processes, which are killed at the end."""
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        environment = {"PYTHONPATH": str(ROOT), "NOTES": str(self.directory), **shared, **variables}
        command = ["posttrain", f"--config={self.config}", *arguments]
        processes = [
            WarmProcess(command, self.printed(rank), {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(2)
        ]
        try:
            yield processes
        finally:
            for process in processes:
                kill(process)

    def run(self, *arguments: str, **variables: str) -> list[int]:
        """To their ends; the exit codes."""
        with self.started(*arguments, **variables) as processes:
            return [process.wait(SECONDS) for process in processes]

    def finish(self, *arguments: str, **variables: str) -> Path:
        """To an end without errors; the run folder."""
        assert self.run(*arguments, **variables) == [0, 0], self.output
        return self.folder

    def printed(self, rank: int) -> Path:
        return self.directory / f"printed-{rank}.txt"

    @property
    def output(self) -> str:
        return "\n".join(self.printed(rank).read_text() for rank in range(2))

    def notes(self, rank: int, step: int | None) -> list[dict[str, Any]]:
        """What the reward noted on a rank: in a step of training, or on dev problems."""
        lines = (self.directory / f"rank-{rank}.jsonl").read_text().splitlines()
        return [note for note in map(json.loads, lines) if note["step"] == step]


def progress(reward: str = "has_digit", **changes: Any) -> DevProgress:
    return DevProgress(DEV, f"{HERE}.{reward}", 3, **{"samples": 4, "batch_size": 8, "kl": False, **changes})


def test_two_ranks_share_prompts_and_problems_and_log_figures_of_both(tiny_policy_dir: Path, tmp_path: Path) -> None:
    # Each group of 4 samples lies on both ranks.
    two = Ranks(
        tmp_path,
        tiny_policy_dir,
        stage=RLVR(f"{HERE}.noted", max_new_tokens=3, samples=4),
        training=training(batch_size=6),
        progress=progress("noted"),
    )
    folder = two.finish()
    for step, logged in enumerate(metrics(folder)[:2]):
        first, second = two.notes(0, step), two.notes(1, step)
        assert len(first) == len(second) == 6
        asked = [note["prompt"] for note in first + second]
        assert asked == [prompt for prompt in dict.fromkeys(asked) for _ in range(4)] and len(set(asked)) == 3
        rewards = [note["reward"] for note in first + second]
        assert float(logged["reward"]) == pytest.approx(fmean(rewards))
        spread = fmean(pstdev(rewards[start : start + 4]) for start in (0, 4, 8))
        assert float(logged["rewards/noted/group_std"]) == pytest.approx(spread)
    problems = DEV.load()["prompt"][:]
    shares = [[note["prompt"] for note in two.notes(rank, None)] for rank in range(2)]
    assert not {*shares[0]} & {*shares[1]}
    assert sorted(shares[0] + shares[1]) == sorted(
        problem for problem in problems for _ in range(8)
    )  # before and after
    spec = ModelSpec(str(tiny_policy_dir))
    alone = progress().measure(spec.load(), spec.load_tokenizer())
    assert record(folder)["before"] == alone.metrics and record(folder)["solved"]["before"] == alone.solved
    assert record(folder)["ranks"] == 2
    assert "step 1 of 2: " in two.printed(0).read_text() and "step " not in two.printed(1).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sft", "dpo"])
def test_two_ranks_train_as_one_process_with_twice_the_batch(
    name: str, run: Callable[..., Path], tiny_policy_dir: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"stage": STAGES[name], "data": LabProblems(32), "progress": progress(kl=True)}
    alone = run(**settings, training=training(batch_size=8, steps=3, learning_rate=1e-3))
    two = Ranks(tmp_path / "two", tiny_policy_dir, **settings, training=training(steps=3, learning_rate=1e-3)).finish()
    losses = [[float(line["loss"]) for line in metrics(folder) if line["loss"]] for folder in (alone, two)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert furthest(weights(alone), weights(two)) < 1e-4
    before, after = record(alone), record(two)
    assert before["data"] == after["data"] and before["dropped"] == after["dropped"]
    assert after["after"] == pytest.approx(before["after"], abs=1e-4)


@pytest.mark.slow
def test_failures_of_all_ranks_are_counted_and_the_run_goes_on(tiny_policy_dir: Path, tmp_path: Path) -> None:
    stage = RLVR(f"{HERE}.noted", max_new_tokens=3, samples=4)
    two = Ranks(tmp_path, tiny_policy_dir, stage=stage, training=training(batch_size=8))
    folder = two.finish(FAILS_ON_RANK="1")
    assert [float(line["reward_failures"]) for line in metrics(folder)[:2]] == [8, 8]
    assert record(folder)["results"]["reward_failures"] == 16


def test_a_reward_that_fails_on_one_rank_ends_both_where_asked(tiny_policy_dir: Path, tmp_path: Path) -> None:
    stage = RLVR(f"{HERE}.noted", max_new_tokens=3, samples=4, on_reward_failure="stop")
    two = Ranks(tmp_path, tiny_policy_dir, stage=stage, training=training(batch_size=8))
    assert two.run(FAILS_ON_RANK="1") == [2, 2], two.output
    for rank in range(2):
        assert "error: reward noted: RuntimeError: rank 1 is broken" in two.printed(rank).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_two_ranks_killed_and_resumed_end_with_the_same_weights(
    name: str, tiny_policy_dir: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"stage": STAGES[name], "data": LabProblems(200), "progress": progress()}
    settings["training"] = training(steps=20, save_steps=2)
    whole = Ranks(tmp_path / "whole", tiny_policy_dir, **settings).finish()
    two = Ranks(tmp_path / "two", tiny_policy_dir, **settings)
    with two.started() as processes:
        end = time.monotonic() + SECONDS
        while newest_checkpoint(two.folder / "checkpoints") is None:
            assert [process.poll() for process in processes] == [None, None] and time.monotonic() < end, two.output
            time.sleep(0.001)
    assert not (two.folder / "model").exists()
    folder = two.finish("--resume=true")
    assert furthest(weights(whole), weights(folder)) == 0
    assert record(whole)["solved"] == record(folder)["solved"]
    assert [line.get("loss") for line in metrics(whole)] == [line.get("loss") for line in metrics(folder)]


@pytest.mark.slow
def test_a_dead_rank_leaves_no_other_waiting(tiny_policy_dir: Path, tmp_path: Path) -> None:
    two = Ranks(tmp_path, tiny_policy_dir, stage=SFT(), training=training(steps=10_000, save_steps=2))
    with two.started() as processes:
        end = time.monotonic() + SECONDS
        while newest_checkpoint(two.folder / "checkpoints") is None:
            assert time.monotonic() < end, two.output
            time.sleep(0.001)
        kill(processes[1])
        assert processes[0].wait(60) not in (0, None)


@pytest.mark.slow
def test_torchrun_starts_them_and_a_held_folder_ends_all(tiny_policy_dir: Path, tmp_path: Path) -> None:
    two = Ranks(tmp_path, tiny_policy_dir, stage=SFT())
    launcher = [str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node=2", f"--master-port={free_port()}"]
    command = [*launcher, "-m", "remit_lit", "posttrain", f"--config={two.config}"]

    def launch() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)

    with held("run_dir", two.folder):
        refused = launch()
    assert refused.returncode != 0 and "error: run_dir: " in refused.stderr and "is being written by" in refused.stderr
    assert not two.folder.exists()
    done = launch()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"posttrain: {two.folder / 'model'}") == 1
    assert record(two.folder)["ranks"] == 2 and (two.folder / "model" / "model.safetensors").exists()


def test_a_run_does_not_go_on_with_another_number_of_ranks(run: Callable[..., Path]) -> None:
    folder = run()
    (folder / "run.json").write_text(json.dumps({**record(folder), "ranks": 2}))
    with pytest.raises(ConfigError, match=r"resume: changed since the run in .* began: ranks;"):
        run(resume=True)


def test_ranks_that_nobody_counted_are_refused(run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning.fabric.utilities.rank_zero.rank_zero_only.rank", 1)  # as srun starts the second
    with pytest.raises(ConfigError, match=r"training: this process is rank 1 of a launcher .* torchrun"):
        run()
