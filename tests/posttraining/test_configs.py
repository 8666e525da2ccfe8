"""Every config of post-training that comes with the kit, up to where a model would be loaded."""

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from remit_lit.cli.dispatch import main
from remit_lit.lab.task import correct_completion, sample_problems
from remit_lit.lab.tokenizer import EOS
from remit_lit.models.spec import ModelSpec
from remit_lit.posttraining.dev_problems import DevProgress
from remit_lit.posttraining.dpo import DPO
from remit_lit.posttraining.examples import ExampleFiles, LabProblems, Mixture
from remit_lit.posttraining.rlvr import RLVR
from remit_lit.posttraining.sft import SFT
from remit_lit.posttraining.weight_precision import require_moving_weights
from remit_lit.recipes.lab_budgets import RLVRStage, SFTStage
from tests.processes import ROOT, documented_commands

LAB = ["experiments/lab/sft.yaml", "experiments/lab/dpo.yaml", "experiments/lab/rlvr.yaml"]
PUBLISHED = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "experiments" / "posttrain").glob("*.yaml"))
STAGES = {"sft": SFT, "dpo": DPO, "rlvr": RLVR}
# What the authors did not publish must be given.
RATES = ["--training.learning_rate=1e-5", "--training.batch_size=8"]
UNPUBLISHED = {
    "experiments/posttrain/youtu_llm_2b_sft.yaml": RATES,
    "experiments/posttrain/youtu_llm_2b_rlvr.yaml": [*RATES, "--stage.init_args.max_new_tokens=16"],
}


@pytest.fixture
def instantiate(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """What a command line would post-train with."""
    caught: list[dict[str, Any]] = []
    module = importlib.import_module("remit_lit.posttraining.posttrain")
    monkeypatch.chdir(ROOT)

    @functools.wraps(module.posttrain)  # the command line has its fields from the signature
    def catch(**values: Any) -> str:
        caught.append(values)
        return "caught"

    def build(name: str, *arguments: str) -> dict[str, Any]:
        with monkeypatch.context() as patch:
            patch.setattr(module, "posttrain", catch)
            main(["posttrain", f"--config={name}", *UNPUBLISHED.get(name, []), *arguments])
        return caught.pop()

    return build


def test_there_are_configs_of_all_families() -> None:
    stems = {Path(name).stem for name in PUBLISHED}
    assert {"olmo2_1b_sft", "olmo2_1b_dpo", "olmo2_1b_rlvr", "smollm3_3b_sft", "smollm3_3b_dpo"} <= stems
    assert {"youtu_llm_2b_sft", "youtu_llm_2b_rlvr"} <= stems


@pytest.mark.parametrize("name", [*LAB, *PUBLISHED])
def test_every_config_stands_alone(name: str, instantiate: Callable[..., dict[str, Any]]) -> None:
    built = instantiate(name)
    assert type(built["stage"]) is STAGES[Path(name).stem.rsplit("_", 1)[-1]]
    built["training"].accelerator, built["training"].precision = "cpu", "32-true"
    for package in ("use_vllm", "use_liger_kernel"):
        built["training"].trl.pop(package, None)
    built["stage"].check(built["training"])


@pytest.mark.parametrize("command", documented_commands("posttrain"), ids=" ".join)
def test_the_commands_of_the_documentation_are_read(
    command: list[str], instantiate: Callable[..., dict[str, Any]]
) -> None:
    _, flag, config, *fields = command
    assert flag == "--config"
    given = dict(zip(fields[::2], fields[1::2], strict=True))
    built = instantiate(config, *fields)
    assert built["run_dir"] == given.get("--run_dir", built["run_dir"])
    assert built["model"].path == given.get("--model.path", built["model"].path)


@pytest.mark.parametrize("name", [*LAB, *PUBLISHED])
def test_every_config_holds_problems_out(name: str, instantiate: Callable[..., dict[str, Any]]) -> None:
    assert instantiate(name)["held_out"]


@pytest.mark.parametrize("name", UNPUBLISHED)
def test_what_is_not_published_must_be_given(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    for left_out in UNPUBLISHED[name]:
        rest = [argument for argument in UNPUBLISHED[name] if argument != left_out]
        with pytest.raises(SystemExit) as raised:
            main(["posttrain", f"--config={name}", *rest])
        assert raised.value.code == 2
        assert left_out.split("=")[0].split(".")[-1] in capsys.readouterr().err


def test_the_labs_configs_have_the_values_of_its_recipe(instantiate: Callable[..., dict[str, Any]]) -> None:
    sft, rlvr = instantiate(LAB[0]), instantiate(LAB[2])
    for built, recipe in ((sft, SFTStage()), (rlvr, RLVRStage())):
        training = built["training"]
        assert (training.learning_rate, training.warmup) == (recipe.learning_rate, recipe.warmup_steps)
        assert (training.beta2, training.schedule, training.weight_decay) == (0.95, "linear", 0.0)
    assert (sft["data"].problems, sft["training"].batch_size) == (SFTStage().problems, SFTStage().batch_size)
    recipe = RLVRStage()
    assert (rlvr["stage"].samples, rlvr["training"].steps) == (recipe.samples, recipe.steps)
    assert rlvr["training"].batch_size == recipe.prompts * recipe.samples
    assert rlvr["data"].problems == recipe.steps * recipe.prompts
    answer = len(correct_completion(sample_problems(1, "dev")[0])) + len(EOS)
    assert rlvr["stage"].max_new_tokens == rlvr["progress"].max_new_tokens == sft["progress"].max_new_tokens == answer


@pytest.mark.parametrize("name", LAB)
def test_the_labs_configs_look_at_dev_problems_only(name: str, instantiate: Callable[..., dict[str, Any]]) -> None:
    built = instantiate(name)
    assert built["data"].split == "train" and built["progress"].data.split == "dev"
    assert [type(source).__name__ for source in built["held_out"]] == ["LabHeldOut"]


@pytest.mark.parametrize(
    ("name", "processes", "rows", "rate", "epochs", "seed"),
    [
        ("olmo2_1b_sft", 8, 128, 3e-5, 2, 1),
        ("olmo2_1b_dpo", 8, 128, 2.5e-6, 1, 111),
        ("olmo2_1b_rlvr", 8, 768, 5e-7, 1, 1),
        ("smollm3_3b_sft", 64, 128, 2e-5, 5, 42),
        ("smollm3_3b_dpo", 16, 32, 1e-6, 1, 42),
    ],
)
def test_published_recipes(
    name: str,
    processes: int,
    rows: int,
    rate: float,
    epochs: float,
    seed: int,
    instantiate: Callable[..., dict[str, Any]],
) -> None:
    built = instantiate(f"experiments/posttrain/{name}.yaml")
    training = built["training"]
    assert processes * training.batch_size * training.accumulate == rows
    assert (training.learning_rate, training.epochs, built["seed"]) == (rate, epochs, seed)
    require_moving_weights(built["model"], training)


def test_smollm3_takes_all_parts_of_its_mixture(instantiate: Callable[..., dict[str, Any]]) -> None:
    data = instantiate("experiments/posttrain/smollm3_3b_sft.yaml")["data"]
    assert isinstance(data, Mixture)
    assert len({part.split for part in data.parts}) == 25  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LAB, *PUBLISHED])
def test_every_config_trains_on_stand_ins(
    name: str,
    instantiate: Callable[..., dict[str, Any]],
    run: Callable[..., Path],
    write_examples: Callable[..., ExampleFiles],
    chat_model: ModelSpec,
    chat_template: str,
) -> None:
    """Two steps of each stage as it is set, with tiny models, data of the same form, and short rows."""
    built = instantiate(name)
    stage, training = built["stage"], built["training"]
    training.accelerator, training.precision, training.save_steps = "cpu", "32-true", None
    training.batch_size, training.accumulate, training.epochs, training.steps = 4, 1, 1, 2
    training.trl = {}
    stage.max_length = 100
    if isinstance(stage, RLVR):
        stage.samples, stage.max_new_tokens = 4, 4
        if "math" in stage.reward:
            pytest.importorskip("math_verify")
    if name in LAB:
        if isinstance(stage, DPO) and stage.make_pairs:
            stage.make_pairs.reward = "tests.posttraining.rewards.has_digit"
        run(stage=stage, training=training, data=LabProblems(16), held_out=built["held_out"])
        return
    asked, answered = {"role": "user", "content": "1+2="}, {"role": "assistant", "content": "3"}
    wrong = {"role": "assistant", "content": "4"}
    row: dict[str, Any] = {"messages": [asked, answered]}
    if isinstance(stage, DPO):
        row = {"chosen": [asked, answered], "rejected": [asked, wrong]}
    if isinstance(stage, RLVR):
        row = {"messages": [asked], "answer": "3"}
    run(model=chat_model, stage=stage, training=training, data=write_examples(*[row] * 8), chat_template=chat_template)


def test_the_template_of_olmo_2_is_the_published_one_with_marks() -> None:
    # The chat template of the released Tulu 3 models, with BOS in front.
    published = (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>\n' + "
        "message['content'] + '\n' }}{% elif message['role'] == 'user' %}{{ '<|user|>\n' + message['content'] + '\n' }}"
        "{% elif message['role'] == 'assistant' %}{% if not loop.last %}{{ '<|assistant|>\n'  + message['content'] + "
        "eos_token + '\n' }}{% else %}{{ '<|assistant|>\n'  + message['content'] + eos_token }}{% endif %}{% endif %}"
        "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"
    )
    ours = (ROOT / "experiments" / "posttrain" / "olmo2.jinja").read_text()
    tokenizer = ModelSpec("lab/base").load_tokenizer()
    turns = [("system", "Be kind."), ("user", "1+2?"), ("assistant", "3"), ("user", "And 4?"), ("assistant", "7")]
    messages = [{"role": role, "content": content} for role, content in turns]
    for end in (2, 3, 4, 5):
        for prompt in (False, True):
            options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": prompt}
            rendered = [
                tokenizer.apply_chat_template(messages[:end], chat_template=template, **options)
                for template in (published, ours)
            ]
            assert rendered[0] == rendered[1]


def test_dev_progress_is_optional(instantiate: Callable[..., dict[str, Any]]) -> None:
    assert isinstance(instantiate(LAB[0])["progress"], DevProgress)
    assert instantiate(LAB[0], "--progress=null")["progress"] is None
