"""A run's checkpoint as a Hugging Face directory."""

import csv
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from huggingface_hub import HfApi
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from remit_lit.cli.dispatch import main
from remit_lit.errors import ConfigError, DataError
from remit_lit.models.export import export
from remit_lit.runs.checkpoint import LAST, begin, checkpoint_path, finish
from remit_lit.runs.weights import WEIGHTS, read_weights, write_weights
from tests.columns import slow_nll


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, tiny_rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path
) -> Path:
    """The run folder of a ReMiT run of 6 steps with a checkpoint every 3."""
    directory = tmp_path_factory.mktemp("export")
    config = {
        "model": {
            "policy": {"path": str(tiny_policy_dir)},
            "weighting": {"class_path": "ReMiT", "init_args": {"epsilon": 0.37}},
            "reference": {"class_path": "LiveReference", "init_args": {"model": {"path": str(tiny_reference_dir)}}},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
            "horizon": {"steps": 6},
        },
        "data": {"rows": str(tiny_rows), "batch_size": 2, "num_workers": 0},
        "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False},
        "checkpoint": {"every_n_train_steps": 3, "keep_last": None},
        "run_dir": str(directory / "run"),
    }
    (directory / "remit.yaml").write_text(yaml.safe_dump(config))
    main(["fit", "--config", str(directory / "remit.yaml")])
    return directory / "run"


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def test_an_export_gives_the_last_validation_loss_of_the_run(finished: Path, tiny_rows: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(export(str(finished), str(tmp_path / "out")))
    rows = datasets.load_from_disk(str(tiny_rows / "validation"))
    losses = [value for row in rows for value in slow_nll(model, row, True) if value is not None]
    with open(finished / "metrics.csv", newline="") as stream:
        logged = [float(row["val/nll"]) for row in csv.DictReader(stream) if row.get("val/nll")]
    assert math.fsum(losses) / len(losses) == pytest.approx(logged[-1], abs=1e-5)


def test_an_export_is_the_model_that_the_run_wrote(finished: Path, tmp_path: Path) -> None:
    main(["export", f"--run={finished}", f"--output={tmp_path / 'out'}"])
    assert files_of(tmp_path / "out") == files_of(finished / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_trained_model_is_not_the_one_it_started_from(finished: Path, tiny_policy_dir: Path) -> None:
    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (tiny_policy_dir, finished / "model"))
    old, new = before.state_dict(), after.state_dict()
    assert old.keys() == new.keys()
    assert all(not torch.equal(old[name], new[name]) for name in old)


def test_an_export_brings_the_tokenizer(finished: Path, tiny_tokenizer_dir: Path, tmp_path: Path) -> None:
    ours = AutoTokenizer.from_pretrained(export(str(finished), str(tmp_path / "out")))
    theirs = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    text = "Q:1A2C3=abc"
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert (ours.bos_token_id, ours.eos_token_id) == (theirs.bos_token_id, theirs.eos_token_id)


def test_a_run_that_has_not_ended_can_be_exported(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    shutil.rmtree(tmp_path / "run" / "model")
    export(str(tmp_path / "run"), str(tmp_path / "out"))
    assert files_of(tmp_path / "out") == files_of(finished / "model")


def test_an_earlier_checkpoint_can_be_exported(finished: Path, tmp_path: Path) -> None:
    checkpoint = checkpoint_path(finished / "checkpoints", 3)
    model = AutoModelForCausalLM.from_pretrained(export(str(finished), str(tmp_path / "out"), str(checkpoint)))
    assert files_of(export(str(checkpoint), str(tmp_path / "by path"))) == files_of(tmp_path / "out")
    state = read_weights(checkpoint / WEIGHTS)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[f"policy.{name}"])
    assert files_of(tmp_path / "out")["model.safetensors"] != files_of(finished / "model")["model.safetensors"]


def test_the_card_says_method_data_and_config(finished: Path, tiny_rows: Path) -> None:
    card = (finished / "model" / "README.md").read_text()
    manifest = json.loads((tiny_rows / "manifest.json").read_text())
    assert "ReMiT" in card
    assert manifest["fingerprints"]["train"] in card
    for name, count in manifest["counts"]["train"]["sources"].items():
        assert f"{name}: {count['tokens']:,} tokens in {count['documents']:,} documents" in card
    assert (finished / "config.yaml").read_text() in card
    assert "epsilon: 0.37" in card
    front = card.split("---\n")[1]
    assert yaml.safe_load(front)["library_name"] == "transformers"


@pytest.mark.parametrize("content", ["nothing", "files", "absent"])
def test_what_is_no_run_folder_is_refused(content: str, tmp_path: Path) -> None:
    if content != "absent":
        (tmp_path / "run").mkdir()
    if content == "files":
        (tmp_path / "run" / "config.yaml").write_text("a: 1\n")
    said = "does not exist" if content == "absent" else "is not a run folder"
    with pytest.raises(ConfigError, match=rf"run: .*run {said}.*run_dir of a fit"):
        export(str(tmp_path / "run"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_output_that_exists_is_refused(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match=r"output: .*out exists"):
        export(str(finished), str(tmp_path / "out"))


def test_a_missing_checkpoint_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^checkpoint: no checkpoint '.*absent'"):
        export(str(finished), str(tmp_path / "out"), str(tmp_path / "absent"))
    shutil.copytree(finished, tmp_path / "run", symlinks=True)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ConfigError, match=r"checkpoint: .*run has none yet"):
        export(str(tmp_path / "run"), str(tmp_path / "out"))


def truncated(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state


def without_policy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"other": torch.ones(1)}


def of_another_policy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"policy.model.norm.weight": torch.ones(7)}


def without_a_parameter(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if name != "policy.model.norm.weight"}


@pytest.mark.parametrize("change", [truncated, without_policy, of_another_policy, without_a_parameter])
def test_a_checkpoint_that_is_not_the_policys_is_refused_and_leaves_nothing(
    change: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = checkpoint_path(tmp_path, 3)
    write_weights(begin(path) / WEIGHTS, change(read_weights(finished / "checkpoints" / LAST / WEIGHTS)))
    finish(path, {"engine": "torch"})
    if change is truncated:
        (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"checkpoint: .*step-00000003"):
        export(str(finished), str(tmp_path / "out"), str(path))
    with pytest.raises(SystemExit) as raised:
        main(["export", f"--run={finished}", f"--output={tmp_path / 'out'}", f"--checkpoint={path}"])
    assert raised.value.code == 2
    assert capsys.readouterr().err.startswith("error: checkpoint: ")
    assert {file.name for file in tmp_path.iterdir()} == {LAST, path.name}


@pytest.mark.parametrize("checkpoint", ["last", None])
def test_the_newest_undamaged_checkpoint_is_exported(checkpoint: str | None, finished: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run", symlinks=True))
    damaged = checkpoint_path(run / "checkpoints", 6) / WEIGHTS
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=r"step-00000006 cannot be trusted.*trying the one before it"):
        export(str(run), str(tmp_path / "out"), checkpoint)
    expected = export(str(finished), str(tmp_path / "third"), str(checkpoint_path(finished / "checkpoints", 3)))
    assert files_of(tmp_path / "out")["model.safetensors"] == files_of(expected)["model.safetensors"]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """A hub that one may write to, and what it was asked for; a directory is kept as its files."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def upload(_: HfApi, *, folder_path: Path, **given: Any) -> None:
        asked.append(("upload", {**given, "files": files_of(folder_path)}))

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    monkeypatch.setattr(
        HfApi, "create_repo", lambda _, name, **given: asked.append(("create", {"name": name, **given}))
    )
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    return asked


def test_an_export_is_pushed_as_it_lies_on_the_disk(finished: Path, tmp_path: Path, hub: list[Any]) -> None:
    main(["export", f"--run={finished}", f"--output={tmp_path / 'out'}", "--push_to_hub=me/model", "--private=false"])
    (first, made), (second, sent) = hub
    assert (first, made["name"], made["private"], made["exist_ok"]) == ("create", "me/model", False, True)
    assert (second, sent["repo_id"], sent["files"]) == ("upload", "me/model", files_of(tmp_path / "out"))


def test_a_name_that_cannot_be_pushed_is_refused_before_a_run_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="push_to_hub: got 'model' without an owner"):
        export(str(tmp_path / "no-run"), str(tmp_path / "out"), push_to_hub="model")


@pytest.mark.parametrize(
    ("repository", "token", "offline", "message"),
    [
        ("model", "hf_token", False, "push_to_hub: got 'model' without an owner; give owner/model"),
        ("me/my model", "hf_token", False, "push_to_hub: got 'me/my model'; give owner/name"),
        ("me/a/b", "hf_token", False, "push_to_hub: got 'me/a/b'; give owner/name"),
        ("me/model", "", False, "push_to_hub: there is no token"),
        ("me/model", "hf_token", True, "push_to_hub: HF_HUB_OFFLINE is set"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_weights_are_read(
    repository: str,
    token: str,
    offline: bool,
    message: str,
    finished: Path,
    tmp_path: Path,
    hub: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr("remit_lit.models.export.read_weights", lambda _: pytest.fail("weights were read"))
    with pytest.raises(ConfigError, match=re.escape(message)):
        export(str(finished), str(tmp_path / "out"), push_to_hub=repository)
    assert not (tmp_path / "out").exists() and not hub


def test_a_hub_that_refuses_leaves_the_export(
    finished: Path, tmp_path: Path, hub: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("403 Forbidden")

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    with pytest.raises(
        ConfigError, match=r"push_to_hub: me/model was not written \(403 Forbidden\); the model is in .*out"
    ):
        export(str(finished), str(tmp_path / "out"), push_to_hub="me/model")
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
