"""Which checkpoint a run goes on from, and what is refused before anything is loaded."""

import json
import os
import pickle
import shutil
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # type: ignore[import-untyped]

from remit_lit.cli.dispatch import main
from remit_lit.runs.checkpoint import all_checkpoints, checkpoint_path
from remit_lit.runs.weights import WEIGHTS
from tests.processes import Run


def config_of(rows: Path, policy: Path, reference: Path, run_dir: Path) -> dict[str, Any]:
    return {
        "model": {
            "policy": {"path": str(policy)},
            "weighting": {"class_path": "ReMiT"},
            "reference": {"class_path": "LiveReference", "init_args": {"model": {"path": str(reference)}}},
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
            "horizon": {"steps": 4},
        },
        "data": {"rows": str(rows), "batch_size": 2, "num_workers": 0},
        "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "limit_val_batches": 0},
        "checkpoint": {"every_n_train_steps": 2, "keep_last": None},
        "run_dir": str(run_dir),
    }


@pytest.fixture
def settings(tiny_rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path) -> dict[str, Any]:
    return config_of(tiny_rows, tiny_policy_dir, tiny_reference_dir, tmp_path / "run")


@pytest.fixture(scope="module")
def trained(
    tiny_rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run that ended, with checkpoints after 2 and 4 steps."""
    place = tmp_path_factory.mktemp("trained")
    (place / "config.yaml").write_text(
        yaml.safe_dump(config_of(tiny_rows, tiny_policy_dir, tiny_reference_dir, place / "run"))
    )
    main(["fit", f"--config={place / 'config.yaml'}"])
    return place / "run"


@pytest.fixture
def finished(settings: dict[str, Any], trained: Path, tmp_path: Path) -> str:
    """The config file of such a run, whose folder is the test's own."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    shutil.copytree(trained, tmp_path / "run", symlinks=True)
    return str(path)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as raised:
        main(["fit", *arguments])
    assert raised.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error[error.index("error: ") :]


@pytest.mark.parametrize(
    ("change", "field", "sides"),
    [
        ("--model.weighting.init_args.epsilon=0.4", "model.weighting.init_args.epsilon", "0.2 before, 0.4 now"),
        ("--model.weighting=NextTokenPrediction", "model.weighting.class_path", "NextTokenPrediction"),
        ("--data.seed=1", "data.seed", "0 before, 1 now"),
        ("--data.batch_size=4", "data.batch_size x ranks", "2 before, 4 now"),
        ("--model.horizon.steps=8", "model.horizon.steps", "4 before, 8 now"),
        ("--seed_everything=1", "seed_everything", "0 before, 1 now"),
        ("--trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches", "1 before, 2 now"),
        ("--trainer.precision=bf16-mixed", "trainer.precision", "now"),
    ],
)
def test_a_config_of_another_meaning_is_refused_naming_the_field(
    change: str, field: str, sides: str, finished: str, capsys: pytest.CaptureFixture[str], request: Any
) -> None:
    request.getfixturevalue("no_weights")
    message = refused(capsys, f"--config={finished}", "--ckpt_path=last", change)
    assert f"  {field}: " in message and sides in message
    assert "--allow_change=FIELD" in message


@pytest.mark.parametrize(
    "change",
    ["--trainer.log_every_n_steps=3", "--checkpoint.keep_last=1", "--data.validation_batch_size=7", "--overwrite=true"],
)
def test_what_does_not_change_the_figures_may_change(change: str, finished: str, tmp_path: Path) -> None:
    shutil.rmtree(all_checkpoints(tmp_path / "run" / "checkpoints")[-1])
    main(["fit", f"--config={finished}", "--ckpt_path=last", change])
    assert all_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == "step-00000004"


@pytest.mark.parametrize("allowed", ["--allow_change=data.seed", "--allow_change=data", "--allow_change=[data.seed]"])
def test_an_allowed_change_is_made(allowed: str, finished: str, tmp_path: Path) -> None:
    shutil.rmtree(all_checkpoints(tmp_path / "run" / "checkpoints")[-1])
    main(["fit", f"--config={finished}", "--ckpt_path=last", "--data.seed=1", allowed])
    assert all_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == "step-00000004"
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]["seed"] == 1


def test_a_checkpoint_may_be_named(finished: str, tmp_path: Path) -> None:
    first = checkpoint_path(tmp_path / "run" / "checkpoints", 2)
    last = checkpoint_path(tmp_path / "run" / "checkpoints", 4)
    before = (last / WEIGHTS).read_bytes()
    shutil.rmtree(last)
    main(["fit", f"--config={finished}", f"--ckpt_path={first}"])
    assert (last / WEIGHTS).read_bytes() == before


def test_a_run_in_parts_is_the_same_run(settings: dict[str, Any], trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**settings, "checkpoint": {"every_n_train_steps": None}}))
    main(["fit", f"--config={path}", "--trainer.max_steps=3"])
    main(["fit", f"--config={path}", "--ckpt_path=last", "--allow_change=trainer.max_steps"])
    last = checkpoint_path(tmp_path / "run" / "checkpoints", 4)
    assert (last / WEIGHTS).read_bytes() == (checkpoint_path(trained / "checkpoints", 4) / WEIGHTS).read_bytes()


def test_a_finished_run_without_checkpoints_stays_as_it_is(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, run = tmp_path / "config.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump({**settings, "checkpoint": {"at_end": False}}))
    main(["fit", f"--config={path}"])
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    main(["fit", f"--config={path}", "--ckpt_path=last"])
    assert refused(capsys, f"--config={path}", "--ckpt_path=last", "--data.seed=1").startswith("error: ckpt_path: ")
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    main(["fit", f"--config={path}", "--overwrite=true", "--data.seed=1"])
    assert (run / "model" / "model.safetensors").read_bytes() != before[run / "model" / "model.safetensors"]


def test_last_without_any_checkpoint_starts_anew(settings: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    main(["fit", f"--config={path}", "--ckpt_path=last"])
    assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"] == 4


def test_a_damaged_checkpoint_that_is_named_is_refused(
    finished: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint_path(tmp_path / "run" / "checkpoints", 4)
    weights = path / "policy.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    message = refused(capsys, f"--config={finished}", f"--ckpt_path={path}")
    assert "policy.safetensors is damaged; give an earlier checkpoint" in message


def test_a_checkpoint_of_another_engine_is_refused(
    finished: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: Any
) -> None:
    request.getfixturevalue("no_weights")
    zero = "--trainer.strategy={class_path: ZeRO, init_args: {stage: 2}}"
    message = refused(capsys, f"--config={finished}", "--ckpt_path=last", zero)
    assert "the checkpoint was written by torch, and this run uses zero2" in message


def test_a_checkpoint_of_other_ranks_of_zero_is_refused(
    finished: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: Any
) -> None:
    request.getfixturevalue("no_weights")
    for path in all_checkpoints(tmp_path / "run" / "checkpoints"):
        facts = json.loads((path / "manifest.json").read_text())
        (path / "manifest.json").write_text(json.dumps({**facts, "engine": "zero2", "ranks": 4}))
    zero = "--trainer.strategy={class_path: ZeRO, init_args: {stage: 2}}"
    message = refused(capsys, f"--config={finished}", "--ckpt_path=last", zero)
    assert "holds the shards of 4 ranks, and this run has 1" in message


def test_only_shards_are_converted(finished: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint_path(tmp_path / "run" / "checkpoints", 4)
    facts = json.loads((path / "manifest.json").read_text())
    for engine, message in (
        ("torch", "any number of ranks can resume from it as it is"),
        ("zero3", "written at stage 3"),
    ):
        (path / "manifest.json").write_text(json.dumps({**facts, "engine": engine}))
        with pytest.raises(SystemExit) as raised:
            main(["convert", f"--checkpoint={path}"])
        assert raised.value.code == 2
        assert message in capsys.readouterr().err


def test_a_converted_checkpoint_is_for_zero(
    finished: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: Any
) -> None:
    request.getfixturevalue("no_weights")
    path = checkpoint_path(tmp_path / "run" / "checkpoints", 4)
    facts = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**facts, "engine": "universal"}))
    message = refused(capsys, f"--config={finished}", f"--ckpt_path={path}")
    assert "a converted checkpoint is for ZeRO at stage 1 or 2, and this run uses torch" in message


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("{class_path: ZeRO, init_args: {stage: 4}}", "trainer.strategy.stage: got 4; give 1, 2 or 3"),
        (
            "{class_path: ZeRO, init_args: {stage: 2, offload_parameters: true}}",
            "offload_parameters: got true at stage 2",
        ),
        ("deepspeed_stage_2", "got DeepSpeedStrategy; give ddp, or ZeRO"),
    ],
)
def test_engines_that_cannot_work_are_refused(
    strategy: str,
    message: str,
    settings: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: Any,
) -> None:
    request.getfixturevalue("no_weights")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    assert message in refused(capsys, f"--config={path}", f"--trainer.strategy={strategy}")


def test_clipping_by_value_is_refused_under_zero(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], request: Any
) -> None:
    request.getfixturevalue("no_weights")
    path = tmp_path / "config.yaml"
    settings["trainer"] |= {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"}
    settings["trainer"]["strategy"] = {"class_path": "ZeRO", "init_args": {"stage": 2}}
    path.write_text(yaml.safe_dump(settings))
    assert "trainer.gradient_clip_algorithm: got value; DeepSpeed clips by norm only" in refused(
        capsys, f"--config={path}"
    )


def test_a_sharded_reference_without_zero_is_refused(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], request: Any
) -> None:
    request.getfixturevalue("no_weights")
    path = tmp_path / "config.yaml"
    settings["model"]["reference"]["init_args"]["sharded"] = True
    path.write_text(yaml.safe_dump(settings))
    message = refused(capsys, f"--config={path}")
    assert "model.reference.init_args.sharded: got true with SingleDeviceStrategy; it needs ZeRO" in message


def test_a_dry_run_goes_the_whole_way_and_leaves_nothing(settings: dict[str, Any], tmp_path: Path) -> None:
    run = Run(tmp_path / "dry", settings)
    assert run.run("--dry_run=true") == 0, run.output
    assert "dry run: a step and its checkpoint: ok" in run.output
    assert "dry run: another step from that checkpoint: ok" in run.output
    assert sorted(path.name for path in run.folder.parent.iterdir()) == ["config.yaml", "printed.txt"]


def test_a_dry_run_shortens_what_callbacks_measure(settings: dict[str, Any], tmp_path: Path) -> None:
    told = tmp_path / "told.txt"
    settings["trainer"]["callbacks"] = [{"class_path": "tests.runs.telling.Telling", "init_args": {"file": str(told)}}]
    run = Run(tmp_path / "dry", settings)
    assert run.run("--dry_run=true") == 0, run.output
    assert told.read_text().splitlines() == ["short", "short"]
    assert run.run() == 0, run.output
    assert told.read_text().splitlines() == ["short", "short", "whole"]


def test_a_dry_run_fails_where_the_run_would(settings: dict[str, Any], tmp_path: Path) -> None:
    settings["model"]["horizon"]["steps"] = 0
    run = Run(tmp_path / "dry", settings)
    assert run.run("--dry_run=true") == 2
    assert "error: " in run.output and "Traceback" not in run.output


def rewritten(manifest: Path, **changes: Any) -> None:
    """A manifest with other facts; None leaves one out."""
    facts = {**json.loads(manifest.read_text()), **changes}
    manifest.write_text(json.dumps({name: value for name, value in facts.items() if value is not None}))


def test_what_is_no_checkpoint_is_refused_with_a_message(
    finished: str, settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = checkpoint_path(tmp_path / "run" / "checkpoints", 4)
    manifest, config, trainer = path / "manifest.json", tmp_path / "run" / "config.yaml", path / "trainer.pt"
    kept = {file: file.read_bytes() for file in (manifest, config, trainer)}
    facts = json.loads(kept[manifest])

    def message(given: Path = path) -> str:
        said = refused(capsys, f"--config={finished}", f"--ckpt_path={given}")
        for file, content in kept.items():
            file.write_bytes(content)
        return said

    assert "is not a checkpoint directory" in message(tmp_path)
    assert "is not a checkpoint directory" in message(trainer)
    assert "rows/manifest.json is damaged (it names no engine)" in message(_rows(settings, tmp_path))
    rewritten(manifest, engine=None)
    assert "manifest.json is damaged (it names no engine)" in message()
    rewritten(manifest, files={})
    assert "manifest.json is damaged (it names no files)" in message()
    manifest.write_bytes(b"\xff\xfe" + kept[manifest])
    assert "manifest.json is damaged" in message()
    for content in (bytes(200), b""):
        config.write_bytes(content)
        assert f"ckpt_path: {config} is damaged" in message()
    pickled = pickle.dumps(Path("/"))
    trainer.write_bytes(pickled)
    facts["files"]["trainer.pt"] = {"bytes": len(pickled), "crc32": zlib.crc32(pickled)}
    rewritten(manifest, files=facts["files"])
    assert f"checkpoint: {trainer} cannot be read" in message()


def _rows(settings: dict[str, Any], tmp_path: Path) -> Path:
    return Path(shutil.copytree(settings["data"]["rows"], tmp_path / "rows"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("--trainer.accelerator=gpu", "trainer: got accelerator=gpu, devices=1; this machine cannot"),
        ("--trainer.devices=0", "trainer: got accelerator=cpu, devices=0; this machine cannot"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_devices_that_are_not_there_are_refused(
    change: str, said: str, settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], request: Any
) -> None:
    request.getfixturevalue("no_weights")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(settings))
    assert said in refused(capsys, f"--config={path}", change)


def test_rows_whose_manifest_is_no_text_are_refused(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, path = _rows(settings, tmp_path), tmp_path / "config.yaml"
    (rows / "manifest.json").write_bytes(b"\xff\xfe{}")
    path.write_text(yaml.safe_dump(settings))
    assert "manifest.json is damaged" in refused(capsys, f"--config={path}", f"--data.rows={rows}")


def test_more_processes_than_cores_are_warned_of_before_they_start(
    finished: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], request: Any
) -> None:
    request.getfixturevalue("no_weights")
    rewritten(checkpoint_path(tmp_path / "run" / "checkpoints", 4) / "manifest.json", engine="zero2")
    devices = 1 + len(os.sched_getaffinity(0))
    changes = ["--ckpt_path=last", "--allow_change=[trainer,data]", f"--trainer.devices={devices}"]
    with pytest.warns(UserWarning, match=rf"trainer\.devices: {devices} processes share"):
        assert "written by zero2" in refused(capsys, f"--config={finished}", *changes)
