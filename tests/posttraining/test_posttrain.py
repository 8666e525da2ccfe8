"""The verb `posttrain`: the run folder, what is refused before a model is loaded, and going on."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from remit_lit.cli.dispatch import main
from remit_lit.errors import ConfigError, DataError, NonFiniteError
from remit_lit.lab.evaluation import lab_scores
from remit_lit.lab.task import sample_problems
from remit_lit.models.spec import ModelSpec
from remit_lit.posttraining.dev_problems import DevProgress
from remit_lit.posttraining.examples import ExampleFiles, Examples, LabProblems, examples_fingerprint
from remit_lit.posttraining.held_out import LabHeldOut
from remit_lit.posttraining.run_folder import newest_checkpoint
from remit_lit.posttraining.sft import SFT
from tests.posttraining.conftest import training
from tests.posttraining.test_sft import record
from tests.processes import furthest

REWARD = "remit_lit.posttraining.rewards.lab_answer"


def weights(run: Path) -> Any:
    return load_file(run / "model" / "model.safetensors")


def test_a_run_folder_says_where_its_model_comes_from(run: Callable[..., Path], tiny_policy_dir: Path) -> None:
    folder = run(training=training(steps=3), seed=5)
    found = record(folder)
    assert found["stage"] == "SFT" and found["seed"] == 5
    assert found["model"]["path"] == str(tiny_policy_dir) and len(found["model"]["fingerprint"]) == 64
    assert found["data"] == {"examples": 8, "used": 8, "fingerprint": examples_fingerprint(LabProblems(8).load())}
    assert {"trl", "transformers", "torch", "remit_lit"} <= found["versions"].keys()
    assert found["seconds"] > 0 and found["ended"] and found["command"] and "git_revision" in found
    with open(folder / "metrics.csv", newline="") as stream:
        steps = [line["step"] for line in csv.DictReader(stream) if line["loss"]]
    assert steps == ["1", "2", "3"]
    assert list(folder.glob("events.out.tfevents.*"))
    card = (folder / "model" / "README.md").read_text()
    assert "Post-trained with SFT" in card and "LabProblems" in card and str(tiny_policy_dir) in card
    assert not list(folder.glob(".model*")) and not (folder / "model" / "training_args.bin").exists()
    AutoTokenizer.from_pretrained(folder / "model")
    assert furthest(weights(folder), load_file(tiny_policy_dir / "model.safetensors")) > 0


def test_the_resolved_config_gives_the_same_model_again(run: Callable[..., Path], tmp_path: Path) -> None:
    progress = DevProgress(LabProblems(2, split="dev"), REWARD, 4, samples=2)
    folder = run(held_out=[LabHeldOut()], progress=progress, stage=SFT(max_length=100))
    main(["posttrain", f"--config={folder / 'config.yaml'}", f"--run_dir={tmp_path / 'again'}"])
    assert furthest(weights(folder), weights(tmp_path / "again")) == 0
    before, after = (yaml.safe_load((path / "config.yaml").read_text()) for path in (folder, tmp_path / "again"))
    assert {**before, "run_dir": None} == {**after, "run_dir": None}


def test_an_earlier_run_is_kept_unless_replaced(run: Callable[..., Path]) -> None:
    folder = run(training=training(steps=3, save_steps=1))
    first = weights(folder)
    with pytest.raises(ConfigError, match=r"run_dir: .* holds an earlier run; continue it with --resume=true"):
        run()
    with pytest.raises(ConfigError, match="resume: cannot be true together with overwrite"):
        run(overwrite=True, resume=True)
    (folder / "mine.txt").write_text("notes")
    run(overwrite=True)
    assert furthest(first, weights(folder)) > 0
    assert not (folder / "checkpoints" / "checkpoint-3").exists()
    assert (folder / "mine.txt").read_text() == "notes"


def test_a_replacement_that_cannot_start_leaves_the_earlier_run(run: Callable[..., Path]) -> None:
    folder = run()
    with pytest.raises(DataError):
        run(data=LabProblems(8, split="dev"), held_out=[LabHeldOut()], overwrite=True)
    assert record(folder)["ended"] and (folder / "model").is_dir()


def test_a_finished_run_stays_as_it_is(run: Callable[..., Path]) -> None:
    folder = run()
    finished = weights(folder)
    assert run(resume=True) == folder and furthest(finished, weights(folder)) == 0
    with pytest.raises(ConfigError, match=r"resume: changed since the run in .* began: stage;"):
        run(resume=True, stage=SFT(packing=True))
    assert furthest(finished, weights(folder)) == 0


class FirstProblems(Examples):
    """Data of a user's own, which calls its argument something else inside."""

    def __init__(self, count: int, weight: float = 1.0) -> None:
        self._problems = LabProblems(count)

    def load(self) -> Dataset:
        return self._problems.load()


def test_an_argument_that_a_class_does_not_keep_is_saved_and_compared(run: Callable[..., Path]) -> None:
    folder = run(data=FirstProblems(8, weight=1.0))
    saved = yaml.safe_load((folder / "config.yaml").read_text())["data"]
    assert saved["init_args"] == {"count": 8, "weight": 1.0}
    with pytest.raises(ConfigError, match=r"resume: changed since the run in .* began: data;"):
        run(data=FirstProblems(8, weight=2.0), resume=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_data_that_cannot_be_trained_on_leave_the_folder_as_it_was(
    overwrite: bool, run: Callable[..., Path], write_examples: Callable[..., ExampleFiles]
) -> None:
    unfit = write_examples({"question": "Q:1="})
    if overwrite:
        finished = weights(run())
    with pytest.raises(DataError, match="the stage needs prompt and completion"):
        run(data=unfit, overwrite=overwrite)
    folder = run(resume=overwrite)  # no folder that would have to be overwritten was left
    assert not overwrite or furthest(finished, weights(folder)) == 0


def test_dev_problems_that_cannot_be_asked_are_refused_before_training(
    run: Callable[..., Path], write_examples: Callable[..., ExampleFiles]
) -> None:
    asked = [{"role": "user", "content": "Q:1="}]
    for rows, tokens, error, why in (
        ({"question": "Q:1="}, 4, DataError, "held_out: ExampleFiles has the columns .*'question'.* but no prompts"),
        ({"messages": asked}, 4, ConfigError, "chat_template: the data are messages"),
        (
            {"prompt": "Q:1="},
            400,
            DataError,
            "progress.data: problem 0 with an answer of max_new_tokens has 40. tokens",
        ),
    ):
        with pytest.raises(error, match=why):
            run(progress=DevProgress(write_examples(rows), REWARD, tokens))


def test_dev_problems_may_be_messages(
    run: Callable[..., Path], write_examples: Callable[..., ExampleFiles], chat_model: ModelSpec, chat_template: str
) -> None:
    answered = [{"role": "user", "content": "Q:1="}, {"role": "assistant", "content": "1"}]
    dev = write_examples({"messages": answered}, name="dev.jsonl")
    progress = DevProgress(dev, "tests.posttraining.rewards.has_digit", 4)
    row = {"messages": [{"role": "user", "content": "Q:2="}, {"role": "assistant", "content": "2"}]}
    folder = run(model=chat_model, data=write_examples(*[row] * 8), progress=progress, chat_template=chat_template)
    assert record(folder)["after"]["problems"] == 1 and record(folder)["after"]["kl"] > 0


def test_resuming_starts_anew_where_there_is_no_checkpoint(run: Callable[..., Path]) -> None:
    assert (run(resume=True) / "model").is_dir()


@pytest.mark.fault("a half-written checkpoint of `posttrain`", "it is passed over")
def test_a_half_written_checkpoint_is_passed_over(run: Callable[..., Path], tmp_path: Path) -> None:
    settings = {"data": LabProblems(16), "run_dir": str(tmp_path / "parts")}
    folder = run(training=training(steps=4, save_steps=2), **settings)
    whole = weights(folder)
    (folder / "checkpoints" / "checkpoint-4" / "trainer_state.json").write_text('{"epoch": 1.0, "glo')
    (folder / "checkpoints" / "checkpoint-10").mkdir()
    found = newest_checkpoint(folder / "checkpoints")
    assert found is not None and found.name == "checkpoint-2"
    run(training=training(steps=4, save_steps=2), **settings, resume=True)
    assert furthest(whole, weights(folder)) == 0


def test_a_run_does_not_go_on_as_another(run: Callable[..., Path]) -> None:
    run(training=training(save_steps=1))
    changes: dict[str, Any] = {
        "seed": 1,
        "stage": SFT(packing=True),
        "data": LabProblems(9),
        "training": training(save_steps=1, learning_rate=1.0),
    }
    for name, value in changes.items():
        with pytest.raises(ConfigError, match=rf"resume: changed since the run in .* began: {name};"):
            run(**{"training": training(save_steps=1), name: value}, resume=True)


def test_a_run_does_not_go_on_with_other_data_of_the_same_name(
    run: Callable[..., Path], write_examples: Callable[..., ExampleFiles]
) -> None:
    rows = [{"prompt": f"Q:{digit}=", "completion": "1"} for digit in range(4)]
    run(data=write_examples(*rows), training=training(save_steps=1))
    with pytest.raises(ConfigError, match="the data differ from those"):
        run(data=write_examples(*rows[::-1]), training=training(save_steps=1), resume=True)


def test_dev_problems_of_the_progress_are_held_out(run: Callable[..., Path]) -> None:
    dev = LabProblems(8, split="dev")
    with pytest.raises(DataError, match="held out by LabProblems"):
        run(data=dev, progress=DevProgress(dev, REWARD, 4))


def test_measuring_progress_changes_nothing(run: Callable[..., Path], tmp_path: Path) -> None:
    plain = run(run_dir=str(tmp_path / "plain"))
    progress = DevProgress(LabProblems(4, split="dev"), REWARD, 4, samples=2, k=[1, 2])
    measured = run(run_dir=str(tmp_path / "measured"), progress=progress)
    assert furthest(weights(plain), weights(measured)) == 0
    assert set(record(measured)["before"]) == {"pass@1", "pass@2", "problems", "reward_failures"}
    assert set(record(measured)["after"]) == {"pass@1", "pass@2", "problems", "reward_failures", "kl"}
    assert record(measured)["solved"].keys() == {"samples", "before", "after"} and "before" not in record(plain)
    progress = DevProgress(LabProblems(4, split="dev"), REWARD, 4, samples=2, kl=False)
    assert "kl" not in record(run(run_dir=str(tmp_path / "apart"), progress=progress))["after"]


def test_pass_at_1_of_the_labs_model_is_its_known_accuracy() -> None:
    """By sampling, of whole traces: each is drawn with the product of its tokens' probabilities."""
    spec = ModelSpec("lab/reference")
    model, tokenizer = spec.load(), spec.load_tokenizer()
    reward = "remit_lit.posttraining.rewards.lab_trace"
    progress = DevProgress(LabProblems(200, split="dev"), reward, 18, samples=4, k=[1, 4])
    figures, solved = progress.measure(model, tokenizer)
    assert len(solved) == 200 and sum(solved) / 800 == pytest.approx(figures["pass@1"])
    scores = lab_scores(model, tokenizer, sample_problems(200, "dev"))
    # Nearly all of a trace's uncertainty is in its results. Problems share the model, so no binomial error is exact.
    expected = scores.probabilities.prod(dim=1).mean().item()
    assert abs(figures["pass@1"] - expected) < 0.05
    assert figures["pass@1"] <= figures["pass@4"] <= 1


@pytest.mark.fault("a loss of `posttrain` that is not finite", "the run ends with a message")
def test_a_loss_that_is_not_finite_ends_the_run(run: Callable[..., Path]) -> None:
    with pytest.raises(NonFiniteError, match=r"step \d: (loss|grad_norm) is (nan|inf)"):
        run(training=training(learning_rate=1e30, steps=4, schedule="constant"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"training": training(batch_size=0)}, "training.batch_size: got 0"),
        ({"training": training(learning_rate=-1.0)}, "training.learning_rate"),
        ({"training": training(beta2=2.0)}, "training.beta2"),
        ({"training": training(weight_decay=-1.0)}, "training.weight_decay"),
        ({"training": training(gradient_clip=-1.0)}, "training.gradient_clip"),
        ({"training": training(schedule="sideways")}, "training: TRL's SFTConfig refuses these values: .*sideways"),
        ({"training": training(trl={"learning_rate": 1.0})}, "training.trl.learning_rate: follows from this kit's own"),
        ({"training": training(trl={"max_length": 5})}, "training.trl.max_length: follows from this kit's own"),
        ({"training": training(trl={"no_such": 5})}, "training.trl.no_such: TRL's SFTConfig has no field 'no_such'"),
        ({"model": ModelSpec("no/such/model")}, "model.path"),
        ({"data": ExampleFiles("no_such.jsonl")}, "nothing matches 'no_such.jsonl'"),
        ({"chat_template": "no_such.jinja"}, "chat_template: no file 'no_such.jinja'"),
    ],
)
@pytest.mark.usefixtures("no_weights")
def test_wrong_settings_are_refused_before_a_model_is_loaded(
    change: dict[str, Any], why: str, run: Callable[..., Path]
) -> None:
    with pytest.raises(ConfigError, match=why):
        run(**change)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"samples": 0}, "give at least 1"),
        ({"k": [9]}, "progress.k"),
        ({"k": []}, "progress.k"),
        ({"temperature": 0}, "progress.temperature"),
    ],
)
def test_wrong_numbers_of_the_progress_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        DevProgress(LabProblems(4, split="dev"), REWARD, 4, **changes)


def test_more_of_trls_settings_are_passed_on(run: Callable[..., Path], tmp_path: Path) -> None:
    plain = run(run_dir=str(tmp_path / "plain"), training=training(learning_rate=1e-3))
    other = run(run_dir=str(tmp_path / "other"), training=training(learning_rate=1e-3, trl={"loss_type": "dft"}))
    assert furthest(weights(plain), weights(other)) > 0


def test_more_loggers_are_asked_for_by_name(tmp_path: Path) -> None:
    for trl, loggers in (({}, []), ({"report_to": ["mlflow"]}, ["mlflow"])):
        config = SFT().config(training(trl=trl), tmp_path, 0, max_length=1, messages=False)
        assert config.report_to == loggers


def test_without_trl_the_extra_is_named(run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "trl.trainer.sft_config", None)
    with pytest.raises(ConfigError, match=r"pip install 'remit_lit\[posttrain\]'"):
        run()


def test_the_command_line_names_stages_by_short_names(
    tiny_policy_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {
        "model": {"path": str(tiny_policy_dir)},
        "stage": {"class_path": "SFT"},
        "data": {"class_path": "LabProblems", "init_args": {"problems": 8}},
        "training": {"learning_rate": 1e-2, "batch_size": 4, "accelerator": "cpu", "log_steps": 1},
        "held_out": [{"class_path": "LabHeldOut"}],
    }
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(config))
    command = ["posttrain", f"--config={tmp_path / 'sft.yaml'}", f"--run_dir={tmp_path / 'run'}"]
    main([*command, "--training.epochs=2", "--stage.init_args.packing=true"])
    printed = capsys.readouterr().out
    assert f"posttrain: {tmp_path / 'run' / 'model'}" in printed and "step 1 of 2: loss " in printed
    AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["data"]["examples"] == 8
    with pytest.raises(SystemExit) as raised:
        main(command)
    assert raised.value.code == 2 and "error: run_dir: " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--stage=PPO"])
    assert "PPO" in capsys.readouterr().err
