"""The command line: what is refused and how, how configs merge, and what a run leaves behind."""

import csv
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from safetensors import SafetensorError
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]
from transformers import AutoModelForCausalLM, AutoTokenizer

from remit_lit import __version__
from remit_lit.cli.common_fields import COMMON_FIELDS
from remit_lit.cli.dispatch import main
from remit_lit.verbs import VERBS
from tests.byte_level import byte_tokenizer
from tests.columns import slow_nll
from tests.helpers import TIME, make_rows, save_model
from tests.inspection.reading import read_page
from tests.processes import ROOT, SECONDS
from tests.warm import ForkedProcess, WarmProcess, forget

STEPS, LOG_EVERY, BATCH, PEAK_FLOPS = 8, 2, 2, 1.0e9
TOKENS_PER_STEP = BATCH * TIME


def base_config(rows: Path, policy: Path, reference: Path) -> dict[str, Any]:
    return {
        "model": {
            "policy": {"path": str(policy)},
            "weighting": {"class_path": "ReMiT", "init_args": {"epsilon": 0.2}},
            "reference": {"class_path": "LiveReference", "init_args": {"model": {"path": str(reference)}}},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.001}},
            "schedule": {"class_path": "Linear"},
            "horizon": {"steps": STEPS},
        },
        "data": {"rows": str(rows), "batch_size": BATCH, "num_workers": 0},
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "log_every_n_steps": LOG_EVERY,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        },
        "run_dir": "run",
    }


def write_yaml(path: Path, config: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return str(path)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture
def base(workplace: Path, tiny_rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path) -> str:
    """A config file that works."""
    return write_yaml(workplace / "base.yaml", base_config(tiny_rows, tiny_policy_dir, tiny_reference_dir))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message with which the command line refuses ``arguments``."""
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    message = re.search(r"^error: (.*)", error, re.MULTILINE | re.DOTALL)
    assert message, error
    return message[1]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command line prints before it exits with 0."""
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert not raised.value.code
    return capsys.readouterr().out


def merged(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(shown(capsys, *arguments, "--print_config"))
    return config


def metrics_of(run: Path) -> list[dict[str, float]]:
    """The rows of metrics.csv without empty fields."""
    with open(run / "metrics.csv", newline="") as stream:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(stream)]


# What the command line says about itself.


def test_usage_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        main(arguments)
        usage = capsys.readouterr().out
        assert all(name in usage and verb.purpose in usage for name, verb in VERBS.items())
    main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


def without_the_harness(arguments: list[str]) -> None:
    forget("lm_eval", "remit_lit")
    sys.modules["lm_eval"] = None  # type: ignore[assignment]
    importlib.import_module("remit_lit.cli.dispatch").main(arguments)


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    arguments = ["evaluate", "--model.path=lab/base", "--tasks=[lab]", "--output=x.json"]
    process = ForkedProcess(without_the_harness, [arguments], tmp_path / "printed.txt")
    assert process.wait(SECONDS) == 2
    said = (tmp_path / "printed.txt").read_text().splitlines()[-1]
    assert said == "error: lm_eval is not installed; pip install 'remit_lit[evaluation]'"


def test_an_unknown_verb_is_refused_naming_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "fitt", "--config", "x.yaml")
    assert "'fitt'" in message
    assert all(verb in message for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_its_fields(
    verb: str, workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    text = shown(capsys, verb, "--help=all")
    _, *blocks = re.split(r"\n  (?=-)", text)
    assert {f"--{VERBS[verb].output}", *(f"--{name}" for name in VERBS[verb].resume or {})} - {"--"} <= {
        block.split()[0] for block in blocks
    }
    for block in blocks:
        words = " ".join(re.split(r"\s{2,}", block)[1:])
        # What stands in brackets is the type and the default, which say nothing of what a field is for.
        assert re.search(r"[a-z]{3}", re.split(r"\((?:required|type)", words)[0]), block


@pytest.mark.parametrize("verb", COMMON_FIELDS)
def test_help_shows_the_fields_that_most_people_set(
    verb: str, workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    every, common = (
        {*re.findall(r"^  (?:-\w(?: \w+)?, )?--([\w.]+)", shown(capsys, verb, f"--help{form}"), re.MULTILINE)}
        for form in ("=all", "")
    )
    assert common == every & {name for field in COMMON_FIELDS[verb] for name in (field, f"{field}.help")}
    assert COMMON_FIELDS[verb] <= every and len(every) > 3 * len(common)
    text = shown(capsys, verb, "--help")
    assert "--help=all" in text and "trainer.barebones" not in text


def test_a_strategy_explains_its_fields(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    text = shown(capsys, "fit", "--model.weighting.help=ReMiT")
    assert "half-width of the clip, in (0, 1]" in text
    assert "per nat, > 0" in text
    assert "share of ranked tokens kept, in (0, 1]" in shown(capsys, "fit", "--model.weighting.help=Rho1")


# How configs merge.


def test_print_config_shows_the_merged_config_with_comments(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "fit", "--config", base, "--model.horizon.steps=5", "--print_config")
    config = yaml.safe_load(text)
    assert config["model"]["horizon"]["steps"] == 5
    assert config["model"]["optimizer"]["init_args"]["lr"] == 0.001
    assert config["model"]["weighting"]["init_args"] == {
        "epsilon": 0.2,
        "slope": 1.0,
        "center": "row",
        "clip": True,
        "detach": True,
        "delta": "excess",
    }
    comments = [line.strip() for line in text.splitlines() if line.strip().startswith("#")]
    assert any("rows of a micro-batch on each device" in comment for comment in comments)
    assert any("optimizer steps" in comment for comment in comments)


def test_interpolations_within_a_file_are_resolved(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    with open(base, "a") as stream:
        stream.write("throughput: {peak_flops: '${model.horizon.steps}'}\n")
    config = merged(capsys, "fit", "--config", base)
    assert config["throughput"]["peak_flops"] == STEPS


def test_interpolations_that_nothing_resolves_are_refused(
    base: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, "fit", "--config", base, "--model.policy.path=${seed_everything}")
    assert "model.policy.path: got '${seed_everything}'" in message and "inside a config file" in message
    (workplace / "overlay.yaml").write_text("run_dir: runs/${seed_everything}\n")
    message = refused(capsys, "fit", "--config", base, "--config", "overlay.yaml")
    assert "run_dir" in message and "an interpolation reaches only fields of its own file" in message


def test_a_misspelt_field_of_a_class_points_to_the_help_of_that_class(
    base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, "fit", "--config", base, "--model.weighting.init_args.epsilom=1")
    assert "ReMiT has no field 'epsilom'" in message and "--model.weighting.help=ReMiT" in message


def test_a_later_config_replaces_the_strategy_and_leaves_the_rest(
    base: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = merged(capsys, "fit", "--config", base)
    second = merged(capsys, "fit", "--config", base, "--config", str(ROOT / "baselines" / "rho1.yaml"))
    assert second["model"]["weighting"]["class_path"].endswith("Rho1")
    assert second["model"]["weighting"]["init_args"] == {"keep": 0.6, "scope": "batch"}
    for config in (first, second):
        del config["model"]["weighting"]
        del config["run_dir"]
    assert first == second


def test_fields_on_the_command_line_win_over_files(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--model.weighting.init_args.epsilon=0.5", "--data.batch_size=7", "--model.weighting.slope", "2")
    config = merged(capsys, "fit", "--config", base, *arguments)
    assert config["model"]["weighting"]["init_args"]["epsilon"] == 0.5
    assert config["model"]["weighting"]["init_args"]["slope"] == 2.0
    assert config["data"]["batch_size"] == 7


def test_the_strategy_has_a_short_form(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = merged(capsys, "fit", "--config", base, "--model.weighting=Rho1", "--model.weighting.keep=0.3")
    assert config["model"]["weighting"]["init_args"]["keep"] == 0.3


def test_the_run_folder_is_named_after_the_configs(
    base: str,
    workplace: Path,
    tiny_rows: Path,
    tiny_policy_dir: Path,
    tiny_reference_dir: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = base_config(tiny_rows, tiny_policy_dir, tiny_reference_dir)
    del config["run_dir"]
    name = write_yaml(workplace / "olmo.yaml", config)
    overlay = str(ROOT / "baselines" / "rho1.yaml")
    assert merged(capsys, "fit", "--config", name, f"--config={overlay}")["run_dir"] == "runs/olmo-rho1"


# What is refused: each message names the field and what would be right, before weights are loaded.


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--model.weighting.init_args.epsilo=0.3"], ["epsilo"]),
        (["--model.polcy.path=x"], ["polcy"]),
        (["--data.batchsize=4"], ["batchsize"]),
        (["--data.batch_size=two"], ["data.batch_size", "int", "two"]),
        (["--data.batch_size=2.5"], ["data.batch_size", "int", "2.5"]),
        (["--model.weighting.init_args.epsilon=high"], ["epsilon", "float", "high"]),
        (["--model.weighting.init_args.center=column"], ["center", "row", "segment", "none"]),
        (["--model.weighting=NoSuchStrategy"], ["model.weighting", "NoSuchStrategy"]),
        (["--model.weighting.init_args.epsilon=0"], ["epsilon: got 0", "(0.0, 1.0]"]),
        (["--model.weighting.init_args.epsilon=1.2"], ["epsilon: got 1.2", "(0.0, 1.0]"]),
        (["--model.weighting.init_args.epsilon=.nan"], ["epsilon: got nan", "(0.0, 1.0]"]),
        (["--model.weighting.init_args.slope=-1"], ["slope: got -1"]),
        (["--model.weighting=Rho1", "--model.weighting.keep=0"], ["keep: got 0", "(0.0, 1.0]"]),
        (["--model.weighting=Rho1", "--model.weighting.keep=60"], ["keep: got 60", "(0.0, 1.0]"]),
        (["--model.weighting=MiniPLM", "--model.weighting.keep=1.5"], ["keep: got 1.5", "(0.0, 1.0]"]),
        (["--model.distillation.alpha=0"], ["distillation.alpha: got 0", "(0.0, 1.0]"]),
        (["--model.distillation.alpha=2"], ["distillation.alpha: got 2", "(0.0, 1.0]"]),
        (["--model.distillation.temperature=0"], ["distillation.temperature: got 0"]),
        (["--model.reference=null"], ["model.reference", "ReMiT", "LiveReference", "CachedReference"]),
        (
            ["--model.weighting=MiniPLM", "--model.reference=null"],
            ["model.reference", "MiniPLM", "LiveReference", "CachedReference"],
        ),
        (
            ["--model.reference=CachedReference", "--model.reference.column=nll", "--model.distillation.alpha=0.5"],
            ["model.reference", "distillation", "CachedReference", "LiveReference"],
        ),
        (["--model.horizon.tokens=100000"], ["horizon", "exactly one"]),
        (["--model.horizon.steps=null"], ["horizon", "exactly one"]),
        (["--model.horizon.steps=0"], ["horizon", "got 0", "at least 1"]),
        (["--model.policy.config={model_type: llama}", "--model.horizon.steps=many"], ["horizon.steps: ", "'many'"]),
        (
            ["--model.horizon.steps=null", f"--model.horizon.tokens={TOKENS_PER_STEP - 1}"],
            [f"horizon.tokens: got {TOKENS_PER_STEP - 1}", f"{TOKENS_PER_STEP} tokens"],
        ),
        (["--model.schedule.init_args.final=2"], ["model.schedule.init_args.final: got 2", "[0.0, 1.0]"]),
        (
            ["--model.schedule.init_args.warmup_steps=-1"],
            ["model.schedule.init_args.warmup_steps: got -1", "give at least 0"],
        ),
        (["--model.z_loss=-1"], ["z_loss: got -1"]),
        (["--model.optimizer.init_args.lr=-1"], ["model.optimizer", "learning rate", "-1"]),
        (["--throughput.peak_flops=0"], ["throughput.peak_flops: got 0"]),
        (["--data.batch_size=0"], ["data.batch_size: got 0", "at least 1"]),
        (["--data.rows=/no/such/rows"], ["data.rows: /no/such/rows does not exist", "prepare"]),
        (["--model.policy.path=/no/such/model"], ["policy.path", "/no/such/model", "owner/name"]),
        (["--model.policy.path=null"], ["policy", "path", "config"]),
        (["--model.reference.init_args.model.path=."], ["model.reference.init_args.model.path", "'.'", "config.json"]),
        (["--model.reference=CachedReference", "--model.reference.column=nll_x"], ["column", "'nll_x'", "score"]),
        (["--trainer.precision=16-mixed"], ["trainer.precision: got 16-mixed", "bf16-mixed"]),
        (["--trainer.precision=16-true"], ["trainer.precision: got 16-true", "bf16-mixed"]),
        ([f"--trainer.max_steps={STEPS + 1}"], [f"trainer.max_steps: got {STEPS + 1}", f"horizon of {STEPS}"]),
        (["--trainer.max_epochs=2"], ["trainer.max_epochs: got 2", "model.horizon"]),
        (["--ckpt_path=/no/such.ckpt"], ["ckpt_path", "/no/such.ckpt"]),
        (["--config=/no/such.yaml"], ["/no/such.yaml"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_settings_that_cannot_work_are_refused(
    arguments: list[str], parts: list[str], base: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, "fit", "--config", base, *arguments)
    for part in parts:
        assert part in message
    assert not (workplace / "run" / "model").exists()


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("model:\n  weigthing: {class_path: ReMiT}\n", "weigthing"),
        ("data: {batch_size: many}\n", "data.batch_size"),
        ("model: [1, 2\n", "overlay.yaml"),
        ("model: {policy: {path: '${no.such.key}'}}\n", "no.such.key"),
        ("model:\n  horizon:\n    steps: ???\n", "model.horizon.steps"),
    ],
)
def test_mistakes_in_a_file_are_refused(
    text: str, part: str, base: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "overlay.yaml").write_text(text)
    assert part in refused(capsys, "fit", "--config", base, "--config", "overlay.yaml")


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("role", ["policy", "reference"])
def test_a_model_of_another_tokenizer_is_refused(
    role: str, base: str, workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    byte_tokenizer().save_pretrained(tmp_path / "bytes")
    field = "--model.policy" if role == "policy" else "--model.reference.init_args.model"
    message = refused(capsys, "fit", "--config", base, f"{field}.tokenizer={tmp_path / 'bytes'}")
    name = "model.policy" if role == "policy" else "model.reference.init_args.model"
    assert re.match(rf"{name}: its tokenizer \(\w+\) is not that of the rows \(\w+\)", message)


@pytest.mark.usefixtures("no_weights")
def test_rows_of_another_tokenizer_are_refused(
    base: str, tiny_tokenizer_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    byte_tokenizer().save_pretrained(tmp_path / "bytes")
    rows = make_rows(tmp_path / "rows", tmp_path / "bytes", TIME, documents=60)
    message = refused(capsys, "fit", "--config", base, f"--data.rows={rows}")
    assert re.match(r"model.policy: its tokenizer \(\w+\) is not that of the rows \(\w+\)", message)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("field", ["model.policy", "model.reference.init_args.model"])
def test_rows_longer_than_a_window_are_refused(field: str, base: str, capsys: pytest.CaptureFixture[str]) -> None:
    (short := Path("short")).mkdir()
    source = yaml.safe_load(Path(base).read_text())["model"]["policy"]["path"]
    for path in Path(source).iterdir():
        (short / path.name).write_bytes(path.read_bytes())
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 100}))
    message = refused(capsys, "fit", "--config", base, f"--{field}.path=short")
    assert message.startswith("model.policy" if "policy" in field else "model.reference.init_args.model")
    for part in ("at most 100 tokens", f"sequence_length of {TIME}", "shorter rows"):
        assert part in message


@pytest.mark.parametrize("field", ["model.policy", "model.reference.init_args.model"])
def test_a_vocabulary_merely_padded_to_another_size_is_fine(
    field: str, base: str, workplace: Path, tmp_path: Path
) -> None:
    padded = save_model(tmp_path / "padded", 5, vocab_size=48)
    main(["fit", "--config", base, f"--{field}.path={padded}", "--model.horizon.steps=2"])
    expected = 48 if "policy" in field else 32
    assert len(load_file(workplace / "run" / "model" / "model.safetensors")["model.embed_tokens.weight"]) == expected


@pytest.mark.usefixtures("no_weights")
def test_a_mistake_does_not_cost_an_earlier_run(base: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("run.json", "model.txt"):
        (workplace / "run").mkdir(exist_ok=True)
        (workplace / "run" / name).write_text("{}")
    for mistake in ("--model.horizon.tokens=100000", "--data.batch_size=0", "--trainer.max_epochs=2"):
        refused(capsys, "fit", "--config", base, "--overwrite=true", mistake)
        assert (workplace / "run" / "model.txt").exists(), mistake


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["prepare"], ["output"]),
        (["prepare", "--output=x", "--tokenizer=lab/base"], ["sources"]),
        (["score", "--model.path=/no/such", "--column=nll"], ["rows"]),
        (["score", "--rows=/no/such", "--model.path=lab/base", "--column=nll"], ["/no/such", "prepare"]),
        (["score", "--rows=ROWS", "--model.path=/no/such", "--column=nll"], ["model.path", "/no/such"]),
        (["score", "--rows=ROWS", "--model.path=lab/base", "--column=n", "--dtype=int8"], ["dtype", "float16"]),
        (["score", "--rows=ROWS", "--model.path=lab/base", "--column=n", "--batch_tokens=0"], ["batch_tokens: got 0"]),
        (["score", "--rows=ROWS", "--model.path=lab/base", "--column=n", "--colum=n"], ["colum"]),
        (["export", "--run=/no/such", "--output=x"], ["run: /no/such does not exist"]),
    ],
    ids=lambda value: " ".join(value) if value[0] in VERBS else "",
)
def test_other_verbs_refuse_what_cannot_work(
    arguments: list[str], parts: list[str], workplace: Path, tiny_rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, *(argument.replace("ROWS", str(tiny_rows)) for argument in arguments))
    for part in parts:
        assert part in message


def test_a_mistake_in_a_real_process(base: str, workplace: Path) -> None:
    printed = workplace / "printed.txt"
    assert WarmProcess(["fit", "--config", base, "--data.batchsize=4"], printed, cwd=workplace).wait(SECONDS) == 2
    assert "Traceback" not in printed.read_text()
    assert "batchsize" in printed.read_text()
    assert "python -m remit_lit fit --help" in printed.read_text()


# What a run does and leaves.


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, tiny_rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path
) -> Path:
    """The folder of a run with a known peak of FLOP/s."""
    directory = tmp_path_factory.mktemp("cli")
    config = base_config(tiny_rows, tiny_policy_dir, tiny_reference_dir)
    config |= {"run_dir": str(directory / "run"), "throughput": {"peak_flops": PEAK_FLOPS}}
    main(["fit", "--config", write_yaml(directory / "base.yaml", config)])
    return directory / "run"


def test_a_run_leaves_its_files(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert {"config.yaml", "run.json", "metrics.csv", "checkpoints", "model", "policy"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert (finished / "checkpoints" / "last.ckpt").exists()
    AutoModelForCausalLM.from_pretrained(finished / "model")


def test_a_run_ends_with_the_report_that_the_verb_writes(finished: Path, tmp_path: Path) -> None:
    main(["report", str(finished), f"--output={tmp_path / 'again.html'}"])
    assert (tmp_path / "again.html").read_bytes() == (finished / "report.html").read_bytes()
    data = read_page(finished / "report.html").data
    assert data["runs"][0]["missing"] == []
    changed = {line["name"]: line["values"][0] for line in data["settings"]}
    assert changed["data.batch_size"] == str(BATCH) and changed["model.horizon.steps"] == str(STEPS)
    assert changed["model.weighting.class_path"].endswith("ReMiT")
    assert not {"model.weighting.init_args.epsilon", "model.z_loss", "run_dir"} & set(changed)  # of which none differs
    validation = next(section for section in data["sections"] if section["title"] == "Validation")
    assert all(panel["lines"][0]["points"][0][0] == 0 for panel in validation["panels"])


def test_the_metrics_have_the_expected_columns(finished: Path) -> None:
    rows = metrics_of(finished)
    logged = [row for row in rows if "train/loss" in row]
    assert [row["step"] for row in logged] == list(range(LOG_EVERY - 1, STEPS, LOG_EVERY))
    weights = ("mean", "std", "clipped_low", "clipped_high", "effective_share", "kl_to_data", "row_delta_mean")
    expected = {"train/loss", "train/learning_rate", "train/grad_norm", "tokens_per_second", "tokens_seen", "mfu"}
    expected |= {"train/nll/web", "train/nll/correct", "weights/excess_loss", *(f"weights/{name}" for name in weights)}
    for row in logged:
        assert expected <= set(row)
        assert 0.8 <= row["weights/mean"] <= 1.2
        assert 0 < row["weights/effective_share"] <= 1
        assert 0 <= row["weights/clipped_low"] + row["weights/clipped_high"] <= 1
    assert {"val/nll", "val/nll/web", "val/nll/correct"} <= set(rows[-1])


def test_the_tidy_metrics_are_the_same_to_6_digits(finished: Path) -> None:
    with open(finished / "tidy_metrics.csv", newline="") as stream:
        tidy = list(csv.DictReader(stream))
    for group, source, metric in (("train", "", "loss"), ("val", "web", "nll"), ("", "", "tokens_seen")):
        name = "/".join(part for part in (group, metric, source) if part)
        found = [line for line in tidy if (line["group"], line["source"], line["metric"]) == (group, source, metric)]
        logged = [(row["step"], row[name]) for row in metrics_of(finished) if name in row]
        assert [float(line["step"]) for line in found] == [step for step, _ in logged]
        assert [float(line["value"]) for line in found] == pytest.approx([value for _, value in logged], rel=5e-6)
    assert len(tidy) == len({(row["step"], name) for row in metrics_of(finished) for name in row if name != "step"})


def test_the_validation_before_training_is_logged_at_step_0(
    finished: Path, tiny_rows: Path, tiny_policy_dir: Path
) -> None:
    """All of it, of the model that training starts from."""
    first = next(row for row in metrics_of(finished) if "val/nll" in row)
    model = AutoModelForCausalLM.from_pretrained(tiny_policy_dir)
    rows = datasets.load_from_disk(str(tiny_rows / "validation"))
    losses = [value for row in rows for value in slow_nll(model, row, True) if value is not None]
    assert first["step"] == 0 and first["val/nll"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)
    assert {"val/nll/web", "val/nll/correct"} <= set(first) and "train/loss" not in first


def test_the_logged_learning_rate_and_tokens_are_those_of_the_step(finished: Path) -> None:
    for row in metrics_of(finished):
        if "train/loss" in row:
            done = row["step"] + 1
            assert row["train/learning_rate"] == pytest.approx(0.001 * (1 - (done - 1) / STEPS), rel=1e-6)
            assert row["tokens_seen"] == done * TOKENS_PER_STEP


def test_mfu_is_flops_over_the_peak(finished: Path) -> None:
    embeddings = 32 * 32  # vocabulary x dimension, tied
    attention = 2 * 32 * 32 + 2 * 16 * 32  # queries and outputs of 4 heads, keys and values of 2
    feed_forward = 3 * 32 * 64
    parameters = embeddings + 2 * (attention + feed_forward + 2 * 32) + 32
    flops_per_token = 6 * parameters + 12 * 2 * 32 * TIME
    rates = [(row["mfu"], row["tokens_per_second"]) for row in metrics_of(finished) if "mfu" in row]
    assert len(rates) == STEPS // LOG_EVERY
    for mfu, tokens_per_second in rates:
        assert mfu == pytest.approx(tokens_per_second * flops_per_token / PEAK_FLOPS, rel=1e-5)


def test_tensorboard_holds_the_same_figures(finished: Path) -> None:
    events = EventAccumulator(str(finished))
    events.Reload()
    for name in ("train/loss", "weights/std", "val/nll/web"):
        expected = [row[name] for row in metrics_of(finished) if name in row]
        assert [event.value for event in events.Scalars(name)] == pytest.approx(expected, rel=1e-5)


def test_tensorboard_shows_weights_text_and_hyperparameters(finished: Path, tiny_rows: Path) -> None:
    events = EventAccumulator(str(finished), size_guidance={"histograms": 0, "tensors": 0})
    events.Reload()
    logged = [row["step"] for row in metrics_of(finished) if "weights/mean" in row]
    histograms = events.Histograms("weights/tokens")
    assert [event.step for event in histograms] == logged
    for event in histograms:
        value = event.histogram_value
        assert 0.799 < value.min <= value.max < 1.201 and 0 < value.num <= TOKENS_PER_STEP
        assert sum(value.bucket) == value.num
    texts = [event for place in range(BATCH) for event in events.Tensors(f"rows/{place}/text_summary")]
    assert {event.step for event in texts} == {logged[0]}
    row, document = re.match(
        r"Row (\d+), \d+ tokens\n\n    (.*)\n", texts[0].tensor_proto.string_val[0].decode()
    ).groups()  # type: ignore[union-attr]
    tokenizer = AutoTokenizer.from_pretrained(finished / "policy")
    assert document in tokenizer.decode(datasets.load_from_disk(str(tiny_rows / "train"))[int(row)]["input_ids"])
    data = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    fields = HParamsPluginData.FromString(data).session_start_info.hparams
    assert fields["data.batch_size"].number_value == BATCH and fields["model.horizon.steps"].number_value == STEPS
    assert fields["model.weighting.class_path"].string_value.endswith("ReMiT") and "model.z_loss" not in fields


def test_the_record_says_where_the_numbers_come_from(finished: Path, tiny_rows: Path) -> None:
    record = json.loads((finished / "run.json").read_text())
    manifest = json.loads((tiny_rows / "manifest.json").read_text())
    assert record["data"]["rows"] == manifest["fingerprints"]
    assert record["data"]["tokenizer"] == manifest["tokenizer"]
    assert record["versions"]["remit_lit"] == __version__
    assert record["versions"]["torch"] == torch.__version__
    assert (record["weighting"], record["steps"], record["tokens_per_step"]) == ("ReMiT", STEPS, TOKENS_PER_STEP)
    assert record["data_seed"] == 0
    assert "git_revision" in record


def test_the_saved_config_repeats_the_run_in_a_folder_of_its_own(base: str, workplace: Path) -> None:
    main(["fit", "--config", base])
    first = (workplace / "run" / "metrics.csv").read_bytes()
    main(["fit", "--config", "run/config.yaml", "--run_dir=again"])
    assert (workplace / "run" / "metrics.csv").read_bytes() == first
    runs = [workplace / "run", workplace / "again"]
    untimed = [[{k: v for k, v in row.items() if k != "tokens_per_second"} for row in metrics_of(run)] for run in runs]
    assert untimed[0] == untimed[1]
    assert len({(run / "model" / "model.safetensors").read_bytes() for run in runs}) == 1
    assert (runs[1] / "checkpoints" / "last.ckpt").exists()


def test_no_mfu_where_the_peak_is_not_known(base: str, workplace: Path) -> None:
    main(["fit", "--config", base, "--model.horizon.steps=4"])
    rows = metrics_of(workplace / "run")
    assert any("tokens_per_second" in row for row in rows)
    assert not any("mfu" in row for row in rows)


def test_an_earlier_run_is_refused_or_replaced(base: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", "--config", base, "--model.horizon.steps=2"])
    before = (workplace / "run" / "model" / "model.safetensors").read_bytes()
    message = refused(capsys, "fit", "--config", base, "--model.horizon.steps=2")
    for part in ("run_dir: run holds an earlier run", "--run_dir", "--overwrite"):
        assert part in message
    assert (workplace / "run" / "model" / "model.safetensors").read_bytes() == before
    main(["fit", "--config", base, "--overwrite=true"])
    assert (workplace / "run" / "model" / "model.safetensors").read_bytes() != before
    assert len(list((workplace / "run").glob("events.out.tfevents*"))) == 1
    assert json.loads((workplace / "run" / "run.json").read_text())["steps"] == STEPS


def test_the_record_and_the_card_end_with_the_last_validation(finished: Path) -> None:
    after = [row for row in metrics_of(finished) if "val/nll" in row][-1]
    results = json.loads((finished / "run.json").read_text())["results"]
    assert results == pytest.approx({name: after[name] for name in results}, rel=1e-6)
    assert {"val/nll", "val/nll/web"} <= set(results)
    assert f"- val/nll: {after['val/nll']:.4f}" in (finished / "model" / "README.md").read_text()


def test_a_run_ends_with_losses_before_and_after_and_the_model(
    base: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["fit", "--config", base])
    out = capsys.readouterr().out
    after = [row for row in metrics_of(workplace / "run") if "val/nll" in row][-1]
    for name in ("val/nll", "val/nll/web", "val/nll/correct"):
        assert re.search(rf"{name} .* {after[name]:.4f} ", out)
    for part in ("ReMiT", f"{STEPS} steps", f"{STEPS * TOKENS_PER_STEP:,} tokens", "model: run/model"):
        assert part in out


def test_the_verbs_work_one_after_the_other(
    base: str, workplace: Path, tiny_rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = str(json.loads((tiny_rows / "manifest.json").read_text())["settings"]["tokenizer"])
    settings = {
        "output": "rows",
        "tokenizer": tokenizer,
        "sequence_length": TIME,
        "validation_share": 0.1,
        "sources": {
            "web": {"class_path": "LabDocuments", "init_args": {"kind": "web", "documents": 120}},
            "correct": {"class_path": "LabDocuments", "init_args": {"kind": "correct", "documents": 120}},
        },
    }
    main(["prepare", "--config", write_yaml(workplace / "prepare.yaml", settings)])
    fingerprints = [
        json.loads((path / "manifest.json").read_text())["fingerprints"] for path in (Path("rows"), tiny_rows)
    ]
    assert fingerprints[0] == fingerprints[1]
    reference = yaml.safe_load(Path(base).read_text())["model"]["reference"]["init_args"]["model"]["path"]
    main(["score", "--rows=rows", f"--model.path={reference}", "--column=nll_rl", "--dtype=float32"])
    cached = ("--model.reference=CachedReference", "--model.reference.column=nll_rl")
    main(["fit", "--config", base, "--data.rows=rows", *cached])
    main(["fit", "--config", base, "--run_dir=live"])
    curves = [[row["train/loss"] for row in metrics_of(Path(run)) if "train/loss" in row] for run in ("run", "live")]
    assert curves[0] == pytest.approx(curves[1], abs=1e-6)
    main(["export", "--run=run", "--output=out"])
    assert (Path("out") / "model.safetensors").read_bytes() == Path("run/model/model.safetensors").read_bytes()
    after = [row for row in metrics_of(Path("run")) if "val/nll" in row][-1]["val/nll"]
    for arguments in (["--model.policy.path=out"], ["--ckpt_path=run/checkpoints/last.ckpt"]):
        capsys.readouterr()
        main(["validate", "--config", base, "--data.rows=rows", *arguments])
        figure = re.search(r"val/nll\W+([\d.]+)", capsys.readouterr().out)
        assert figure
        assert float(figure[1]) == pytest.approx(after, abs=1e-5)


STRATEGY = '''
from remit_lit.weighting import TokenSignals, TokenWeighting


class Halves(TokenWeighting):
    """Every counted token weighs ``weight``.

    Args:
        weight: of each token.
    """

    def __init__(self, weight: float = 0.5) -> None:
        self.weight = weight

    def weights(self, signals: TokenSignals):
        return signals.mask.float() * self.weight
'''


def test_a_strategy_of_ones_own_from_a_package_outside_the_repository(
    base: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "my_package").mkdir()
    (workplace / "my_package" / "__init__.py").touch()
    (workplace / "my_package" / "strategies.py").write_text(STRATEGY)
    monkeypatch.syspath_prepend(workplace)
    weighting = ("--model.weighting=my_package.strategies.Halves", "--model.weighting.weight=0.25")
    main(["fit", "--config", base, *weighting])
    logged = [row for row in metrics_of(workplace / "run") if "train/loss" in row]
    assert {row["weights/mean"] for row in logged} == {0.25}
    for row in logged:
        assert row["train/loss"] == pytest.approx(row["train/nll"] / 4, rel=1e-5)
    assert "Halves" in (workplace / "run" / "model" / "README.md").read_text()


def test_an_exit_without_a_code_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning leaves so on a signal."""

    def interrupted(*_: Any) -> None:
        raise SystemExit

    monkeypatch.setattr("remit_lit.cli.training.run_trainer", interrupted)
    with pytest.raises(SystemExit) as raised:
        main(["fit"])
    assert raised.value.code == 75
    assert capsys.readouterr().err.startswith("preempted: ")


def test_a_full_disk_is_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def full(*_: Any) -> None:
        with open("/dev/full", "w") as file:
            file.write("x")

    def full_for_safetensors(*_: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    for write in (full, full_for_safetensors):
        monkeypatch.setattr("remit_lit.cli.preparation.run_prepare", write)
        with pytest.raises(SystemExit) as raised:
            main(["prepare"])
        assert raised.value.code == 2
        assert "No space left on device; make room, or give another folder" in capsys.readouterr().err
