"""Every config file that comes with the kit, alone and with every overlay, up to where weights would be loaded."""

import contextlib
import functools
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from transformers import AutoModelForCausalLM

from remit_lit.cli.dispatch import main
from remit_lit.models.locations import resolve
from remit_lit.reference.reference import CachedReference, InitialPolicy, LiveReference
from remit_lit.training.datamodule import PackedData
from remit_lit.training.module import MidTrainingModule
from remit_lit.weighting import (
    DFT,
    ESLM,
    RLSD,
    LongRange,
    MiniPLM,
    NextTokenPrediction,
    ReMiT,
    Rho1,
    ShuffledReMiT,
    TokenFilter,
)
from tests.processes import ROOT, documented_commands

QUICKSTART = "experiments/quickstart.yaml"
# Laid over the quickstart; the others stand alone.
LAB_OVERLAYS = [
    f"experiments/lab/{name}.yaml"
    for name in (
        *(
            "bare",
            "choice_pool",
            "curve",
            "measured",
            "more_tokens",
            "planted",
            "reference_problems",
            "rho1_reference",
            "weighed",
        ),
        *("wrong_0", "wrong_25", "wrong_75"),
    )
]
# Of other verbs than `fit`; tests/posttraining and tests/tables have theirs.
OTHER_VERBS = [
    f"experiments/lab/{name}.yaml"
    for name in (
        *("dpo", "flywheel", "held_out_rows", "pipeline", "rlvr", "sft"),
        *("more_rl", "one_operator", "weak_rl"),
    )
]
ABLATIONS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "experiments" / "ablations").glob("*.yaml"))
# The ReMiT paper's own settings of the methods, and its budget.
PAPER = [
    f"baselines/{name}.yaml"
    for name in (
        "remit_paper",
        "rho1_paper",
        "rho1_rl_reference",
        "miniplm_paper",
        "distillation_paper",
        "paper_tokens",
    )
]
BASELINES = sorted(
    {str(path.relative_to(ROOT)) for path in (ROOT / "baselines").glob("*.yaml")} - {"baselines/results.yaml", *PAPER}
)
EXPERIMENTS = sorted(
    {str(path.relative_to(ROOT)) for folder in (".", "lab") for path in (ROOT / "experiments" / folder).glob("*.yaml")}
    - set(LAB_OVERLAYS)
    - set(OTHER_VERBS)
)
# What the authors did not publish must be given.
YOUTU = "experiments/youtu_llm_2b.yaml"
OPTIMIZER = ["--model.optimizer=torch.optim.AdamW", "--model.optimizer.lr=1e-4"]
HORIZON = ["--model.horizon.tokens=1000000000"]
UNPUBLISHED = {YOUTU: [*OPTIMIZER, *HORIZON]}
STRATEGIES = {
    "ntp": NextTokenPrediction,
    "distillation": NextTokenPrediction,
    "remit": ReMiT,
    "rho1": Rho1,
    "miniplm": MiniPLM,
    "dft": DFT,
    "eslm": ESLM,
    "distillation_reverse": NextTokenPrediction,
    "distillation_switch": NextTokenPrediction,
    "rlsd": RLSD,
    "long_range": LongRange,
    "token_filter": TokenFilter,
}


class Caught(Exception):  # noqa: N818
    """Training would start now."""


@dataclass
class Built:
    """What a command line builds, caught where training would start."""

    module: MidTrainingModule
    data: PackedData
    trainer: pl.Trainer

    def optimizer(self) -> torch.optim.Optimizer:
        return self.module.optimizer([torch.nn.Parameter(torch.zeros(1))])


@pytest.fixture
def instantiate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path
) -> Callable[..., Built]:
    """Build what `fit` would train, with tiny local models and rows in the place of those of the files."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)
    monkeypatch.setattr(AutoModelForCausalLM, "from_config", refuse)
    caught: list[Built] = []

    @functools.wraps(pl.Trainer.fit)
    def catch(trainer: pl.Trainer, model: MidTrainingModule, *args: Any, datamodule: PackedData, **_: Any) -> None:
        caught.append(Built(model, datamodule, trainer))
        raise Caught

    monkeypatch.setattr(pl.Trainer, "fit", catch)
    monkeypatch.chdir(ROOT)

    def build(*files: str, arguments: tuple[str, ...] = ()) -> Built:
        texts = [(ROOT / name).read_text() for name in files]
        configs = [yaml.safe_load(text) for text in texts]
        replaced = [f"--data.rows={tiny_rows}", "--data.prepare=null", f"--run_dir={tmp_path / 'run'}"]
        replaced += ["--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.num_nodes=1"]
        policy: dict[str, Any] = configs[0]["model"]["policy"]
        if "path" in policy:
            replaced += [f"--model.policy.path={tiny_policy_dir}", "--model.policy.tokenizer=null"]
        references = [config["model"]["reference"] for config in configs if "reference" in config.get("model", {})]
        live = bool(references) and references[-1]["class_path"].endswith("LiveReference")
        # Embedded models are there, so what a file says of them stays.
        if live and not references[-1]["init_args"]["model"]["path"].startswith("lab/"):
            replaced.append(f"--model.reference.init_args.model.path={tiny_reference_dir}")
        unpublished = [argument for name in files for argument in UNPUBLISHED.get(name, [])]
        with contextlib.suppress(Caught):
            main(["fit", *(f"--config={name}" for name in files), *unpublished, *replaced, *arguments])
        return caught.pop()

    return build


@pytest.fixture(scope="module")
def built_before() -> dict[tuple[str, ...], Built]:
    return {}


@pytest.fixture
def instantiate_once(
    instantiate: Callable[..., Built], built_before: dict[tuple[str, ...], Built]
) -> Callable[..., Built]:
    """The same for files that several tests read, and each test as it is."""

    def build(*files: str) -> Built:
        if files not in built_before:
            built_before[files] = instantiate(*files)
        return built_before[files]

    return build


def test_there_are_experiments_baselines_and_ablations() -> None:
    assert {Path(name).stem for name in BASELINES} == set(STRATEGIES)
    assert {"quickstart", "real_smollm2", "olmo2_1b", "smollm3_3b", "youtu_llm_2b"} <= {
        Path(n).stem for n in EXPERIMENTS
    }
    assert len(ABLATIONS) >= 8


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_stands_alone(experiment: str, instantiate_once: Callable[..., Built]) -> None:
    built = instantiate_once(experiment)
    assert built.optimizer().param_groups[0]["lr"] > 0
    assert (built.module.horizon.steps or built.module.horizon.tokens or 0) > 0


@pytest.mark.parametrize("baseline", BASELINES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_baseline_lies_over_every_experiment(
    experiment: str, baseline: str, instantiate_once: Callable[..., Built], capsys: pytest.CaptureFixture[str]
) -> None:
    name = Path(baseline).stem
    alone = instantiate_once(experiment)
    needs_live = name.startswith("distillation") and not isinstance(alone.module.reference, LiveReference)
    needs_any = name in ("remit", "rho1", "miniplm", "rlsd", "long_range") and alone.module.reference is None
    if needs_live or needs_any:
        with pytest.raises(SystemExit) as raised:
            instantiate_once(experiment, baseline)
        assert raised.value.code == 2
        assert "error: model.reference: " in capsys.readouterr().err
        return
    built = instantiate_once(experiment, baseline)
    assert type(built.module.weighting) is STRATEGIES[name]
    assert (built.module.distillation is not None) == name.startswith("distillation")
    assert built.module.horizon == alone.module.horizon
    assert built.optimizer().defaults == alone.optimizer().defaults
    assert built.data.batch_size == alone.data.batch_size


def test_the_papers_setting_of_each_method(instantiate: Callable[..., Built]) -> None:
    olmo, built = "experiments/olmo2_1b.yaml", {}
    for name in PAPER[:-1]:
        built[Path(name).stem] = instantiate(olmo, name, PAPER[-1]).module
        assert (built[Path(name).stem].horizon.steps, built[Path(name).stem].horizon.tokens) == (None, 50_000_000_000)
    remit = built["remit_paper"]
    assert isinstance(remit.weighting, ReMiT)
    settings = {"epsilon": 0.2, "slope": 1.0, "center": "row", "clip": True, "detach": True, "delta": "excess"}
    assert vars(remit.weighting) == settings
    assert remit.base is None
    for name in ("remit_paper", "rho1_paper", "rho1_rl_reference"):
        assert not built[name].neutral_tokens
    for name in ("rho1_paper", "rho1_rl_reference"):
        assert vars(built[name].weighting) == {"keep": 0.8, "scope": "batch"}
    assert built["rho1_paper"].columns == ["nll_curated"]
    assert isinstance(built["rho1_rl_reference"].reference, LiveReference)
    assert isinstance(built["miniplm_paper"].weighting, MiniPLM)
    assert vars(built["miniplm_paper"].weighting) == {"keep": 0.8}
    distillation = built["distillation_paper"].distillation
    assert distillation is not None and distillation.alpha == 1.0


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_ablation_changes_one_thing(ablation: str, instantiate_once: Callable[..., Built]) -> None:
    plain = instantiate_once(QUICKSTART, "baselines/remit.yaml").module
    changed = instantiate_once(QUICKSTART, "baselines/remit.yaml", ablation).module
    assert isinstance(changed.weighting, ReMiT)
    before, after = vars(plain.weighting), vars(changed.weighting)
    different = {name: after[name] for name in after if after[name] != before[name]}
    expected = {
        "center_per_document": {"center": "segment"},
        "no_centering": {"center": "none"},
        "epsilon_0.1": {"epsilon": 0.1},
        "epsilon_0.2": {},
        "epsilon_0.5": {"epsilon": 0.5},
        "slope_2": {"slope": 2.0},
        "unclipped": {"clip": False},
        "weights_not_detached": {"detach": False},
        "frozen_base": {},
        "sft_reference": {},
        "standardized_centering": {"center": "standardized"},
        "reference_loss_alone": {"delta": "reference"},
        "shuffled_weights": {},
    }
    stem = Path(ablation).stem
    assert (type(changed.weighting) is ShuffledReMiT) == (stem == "shuffled_weights")
    assert different == expected[stem]
    assert isinstance(changed.base, InitialPolicy) == (stem == "frozen_base")
    assert isinstance(changed.reference, LiveReference)
    assert changed.reference.spec.path == ("lab/sft" if stem == "sft_reference" else "lab/reference")


def test_more_tokens_is_a_third_more_of_the_quickstart(instantiate_once: Callable[..., Built]) -> None:
    plain, built = instantiate_once(QUICKSTART), instantiate_once(QUICKSTART, "experiments/lab/more_tokens.yaml")
    assert built.module.horizon.steps and plain.module.horizon.steps
    assert built.module.horizon.steps / plain.module.horizon.steps == pytest.approx(4 / 3, rel=0.01)


def test_the_reference_of_rho1_is_trained_on_its_curated_text_alone(
    instantiate: Callable[..., Built], capsys: pytest.CaptureFixture[str]
) -> None:
    files = (QUICKSTART, "baselines/ntp.yaml", "experiments/lab/rho1_reference.yaml")
    built = instantiate(*files)
    assert isinstance(built.module.weighting, NextTokenPrediction)
    assert built.module.references == []
    with pytest.raises(SystemExit):
        main(["fit", *(f"--config={name}" for name in files), "--print_config"])
    assert list(yaml.safe_load(capsys.readouterr().out)["data"]["prepare"]["sources"]) == ["correct"]


@pytest.mark.parametrize("name", sorted({*EXPERIMENTS, *LAB_OVERLAYS, *ABLATIONS, *BASELINES, *PAPER}))
def test_embedded_models_that_files_name_exist(name: str) -> None:
    for path in re.findall(r"(?:path|tokenizer): (lab/\w+)", (ROOT / name).read_text()):
        assert (Path(resolve(path)) / "config.json").is_file(), path


@pytest.mark.parametrize(
    ("experiment", "path", "revision", "reference"),
    [
        (
            "olmo2_1b",
            "allenai/OLMo-2-0425-1B",
            "stage1-step1907359-tokens4001B",
            "allenai/OLMo-2-0425-1B-Instruct",
        ),
        ("smollm3_3b", "HuggingFaceTB/SmolLM3-3B-checkpoints", "stage2-step-4200000", "HuggingFaceTB/SmolLM3-3B"),
        ("youtu_llm_2b", "tencent/Youtu-LLM-2B-Base", None, "tencent/Youtu-LLM-2B"),
    ],
)
def test_experiments_name_the_published_models(
    experiment: str, path: str, revision: str | None, reference: str
) -> None:
    text = (ROOT / "experiments" / f"{experiment}.yaml").read_text()
    model = yaml.safe_load(text)["model"]
    assert (model["policy"]["path"], model["policy"].get("revision")) == (path, revision)
    assert model["reference"]["init_args"]["model"]["path"] == reference


def test_olmo_has_its_published_recipe(instantiate_once: Callable[..., Built]) -> None:
    built = instantiate_once("experiments/olmo2_1b.yaml")
    group = built.optimizer().param_groups[0]
    assert isinstance(built.optimizer(), torch.optim.AdamW)
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (7.4487e-5, (0.9, 0.95), 1e-8, 0.1)
    assert built.module.schedule.factor(0, 100) == 1.0
    assert built.module.schedule.factor(50, 100) == pytest.approx(0.5)
    assert built.module.schedule.factor(100, 100) == 0.0
    assert (built.module.z_loss, built.module.no_decay) == (1e-5, ["embeddings"])
    assert built.trainer.gradient_clip_val == 1.0
    assert built.trainer.precision == "bf16-mixed"
    config = yaml.safe_load((ROOT / "experiments/olmo2_1b.yaml").read_text())
    rows = config["trainer"]["devices"] * built.data.batch_size * built.trainer.accumulate_grad_batches
    assert rows == 512
    assert config["data"]["prepare"]["sequence_length"] == 4096
    assert built.module.horizon.steps
    assert built.module.horizon.steps * rows * 4096 <= config["data"]["prepare"]["num_tokens"]


def test_smollm3_has_its_published_batch_and_mix(instantiate_once: Callable[..., Built]) -> None:
    built = instantiate_once("experiments/smollm3_3b.yaml")
    config = yaml.safe_load((ROOT / "experiments/smollm3_3b.yaml").read_text())
    devices = config["trainer"]["devices"] * config["trainer"]["num_nodes"]
    rows = devices * built.data.batch_size * built.trainer.accumulate_grad_batches
    assert rows * config["data"]["prepare"]["sequence_length"] == 2_359_296
    assert sum(config["data"]["prepare"]["mix"].values()) == pytest.approx(1)
    assert built.optimizer().param_groups[0]["lr"] == 2e-4


def test_real_smollm2_takes_the_cached_scores(instantiate_once: Callable[..., Built]) -> None:
    built = instantiate_once("experiments/real_smollm2.yaml")
    assert isinstance(built.module.reference, CachedReference)
    assert built.module.columns == ["nll_rl"]


def test_the_claims_policy_is_undamaged_and_its_reference_another_model(instantiate_once: Callable[..., Built]) -> None:
    config = yaml.safe_load((ROOT / "experiments/real_claim.yaml").read_text())
    assert config["model"]["policy"]["path"] == ".cache/real/smollm2"
    assert instantiate_once("experiments/real_claim.yaml").module.columns == ["nll_sft"]


def test_what_is_not_published_must_be_given(
    tiny_rows: Path, tiny_policy_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    local = (f"--data.rows={tiny_rows}", "--data.prepare=null", f"--model.policy.path={tiny_policy_dir}")
    for given, missing in ((HORIZON, "model.optimizer"), (OPTIMIZER, "horizon")):
        with pytest.raises(SystemExit) as raised:
            main(["fit", f"--config={YOUTU}", *given, *local])
        assert raised.value.code == 2
        assert re.search(rf"error: .*\b{missing}\b", capsys.readouterr().err)


@pytest.mark.parametrize("command", documented_commands("fit"), ids=" ".join)
def test_documented_commands_work(
    command: list[str], instantiate: Callable[..., Built], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [(ROOT / page).read_text() for page in ("README.md", "docs/guides/strategies.md")]
    code = [re.search(r"```python\n# my_weighting\.py\n(.*?)```", page, re.DOTALL) for page in pages]
    (tmp_path / "my_weighting.py").write_text("\n".join(found[1] for found in code if found))
    monkeypatch.syspath_prepend(tmp_path)
    words = [re.sub(r"=runs/\w+/model$", "=lab/base", word) for word in command[1:]]  # no run has been made here
    files = tuple(after for word, after in itertools.pairwise(words) if word == "--config")
    fields = tuple(word for word in words if word.startswith("--") and word != "--config")
    built = instantiate(*files, arguments=fields)
    for name, setting in (("Focal", {"gamma": 1.5}), ("TanhExcess", {"strength": 0.5})):
        if any(f"my_weighting.{name}" in word for word in words):
            assert type(built.module.weighting).__name__ == name
            assert vars(built.module.weighting) == setting
    if any("epsilon=0.3" in word for word in words):
        assert vars(built.module.weighting)["epsilon"] == 0.3


def test_files_that_the_readme_links_to_exist() -> None:
    text = (ROOT / "README.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith(("http", "#"))]
    assert links
    assert [link for link in links if not (ROOT / link.split("#")[0]).exists()] == []
