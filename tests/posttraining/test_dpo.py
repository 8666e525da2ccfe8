"""DPO: pairs given and pairs made, and what the training does to them."""

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from remit_lit.errors import ConfigError, DataError
from remit_lit.models.spec import ModelSpec
from remit_lit.posttraining.dpo import DPO, MakePairs
from remit_lit.posttraining.examples import ExampleFiles, LabProblems
from tests.posttraining import rewards
from tests.posttraining.conftest import training
from tests.posttraining.test_sft import record

HERE = "tests.posttraining.rewards"
PAIRS = [{"prompt": f"Q:{character}=", "chosen": "12", "rejected": "ab"} for character in "012345cd"]


def margin(model: Path, pairs: list[dict[str, Any]]) -> float:
    """Mean log-probability of the chosen answer with EOS, less that of the rejected."""
    tokenizer, loaded = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)

    def logp(prompt: str, answer: str) -> float:
        ids = tokenizer(prompt + answer + "\n", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            each = loaded(ids).logits[0, :-1].log_softmax(-1)[torch.arange(ids.shape[1] - 1), ids[0, 1:]]
        return each[len(prompt) :].sum().item()

    return sum(logp(p["prompt"], p["chosen"]) - logp(p["prompt"], p["rejected"]) for p in pairs) / len(pairs)


def test_given_pairs_are_learned_from_the_start(
    run: Callable[..., Path], tiny_policy_dir: Path, write_examples: Callable[..., ExampleFiles]
) -> None:
    one = run(stage=DPO(), data=write_examples(*PAIRS), training=training(steps=1, batch_size=8))
    # Policy and reference are the same model yet, so every pair costs log 2.
    assert record(one)["results"]["loss"] == pytest.approx(math.log(2), rel=1e-5)
    more = run(stage=DPO(), data=write_examples(*PAIRS), training=training(steps=10, batch_size=8), overwrite=True)
    moved = margin(more / "model", PAIRS) - margin(tiny_policy_dir, PAIRS)
    assert moved > 0.5
    assert record(more)["results"]["loss"] < math.log(2) - 0.01


def test_the_margin_that_is_logged_is_beta_times_what_it_moved(
    run: Callable[..., Path], tiny_policy_dir: Path, write_examples: Callable[..., ExampleFiles], tmp_path: Path
) -> None:
    """The margin of the second step is that of the model after the first."""
    settings = {"stage": DPO(beta=0.3), "data": write_examples(*PAIRS)}
    after_one = run(**settings, training=training(steps=1, batch_size=8, schedule="constant"))
    after_two = run(
        **settings, training=training(steps=2, batch_size=8, schedule="constant"), run_dir=str(tmp_path / "two")
    )
    moved = margin(after_one / "model", PAIRS) - margin(tiny_policy_dir, PAIRS)
    assert record(after_two)["results"]["rewards/margins"] == pytest.approx(0.3 * moved, rel=1e-3)


def test_the_reference_is_loaded_as_the_model_was(
    run: Callable[..., Path],
    tiny_policy_dir: Path,
    write_examples: Callable[..., ExampleFiles],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trl_dpo: Any = importlib.import_module("trl.trainer.dpo_trainer")
    load, loaded = trl_dpo.create_model_from_path, []

    def watched(path: str, **options: Any) -> Any:
        loaded.append((path, options))
        return load(path, **options)

    monkeypatch.setattr(trl_dpo, "create_model_from_path", watched)
    run(model=ModelSpec(str(tiny_policy_dir), revision="main"), stage=DPO(), data=write_examples(*PAIRS))
    ((path, options),) = loaded
    assert path == str(tiny_policy_dir) and options["revision"] == "main"
    fresh = ModelSpec(config={"model_type": "llama"}, tokenizer=str(tiny_policy_dir))
    with pytest.raises(ConfigError, match=r"model.path: got none; this stage loads the starting model again"):
        run(model=fresh, stage=DPO(), data=write_examples(*PAIRS), overwrite=True)


def test_equal_sides_are_counted_and_dropped(
    run: Callable[..., Path], write_examples: Callable[..., ExampleFiles]
) -> None:
    equal = {"prompt": "Q:1=", "chosen": "12", "rejected": "12"}
    long = {"prompt": "Q:1=", "chosen": "1" * 20, "rejected": "2"}
    folder = run(stage=DPO(max_length=12), data=write_examples(*PAIRS, equal, equal, long))
    assert record(folder)["dropped"] == {"equal": 2, "too_long": 1}
    with pytest.raises(DataError, match=r"chosen and rejected are equal in all 2 pairs"):
        run(stage=DPO(), data=write_examples(equal, equal), overwrite=True)


def test_pairs_are_made_from_right_and_wrong_answers(tiny_policy_dir: Path) -> None:
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tiny_policy_dir),
        AutoTokenizer.from_pretrained(tiny_policy_dir),
    )
    model.train()
    before = torch.random.get_rng_state()
    make = MakePairs(f"{HERE}.has_digit", max_new_tokens=4, samples=8)
    pairs, counts = make.make(LabProblems(20).load(), model, tokenizer, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before) and model.training
    assert len(pairs) + counts["no_contrast"] == 20 and len(pairs) > 10
    assert rewards.has_digit(pairs["prompt"], pairs["chosen"]) == [1.0] * len(pairs)
    assert rewards.has_digit(pairs["prompt"], pairs["rejected"]) == [0.0] * len(pairs)
    again, _ = make.make(LabProblems(20).load(), model, tokenizer, seed=0)
    other, _ = make.make(LabProblems(20).load(), model, tokenizer, seed=1)
    assert again.to_list() == pairs.to_list() != other.to_list()


def test_training_on_made_pairs(run: Callable[..., Path]) -> None:
    folder = run(stage=DPO(MakePairs(f"{HERE}.fails_on_letters", 4)), data=LabProblems(20))
    dropped = record(folder)["dropped"]
    assert dropped["reward_failures"] > 0
    assert record(folder)["data"]["used"] + dropped["no_contrast"] + dropped["equal"] == 20


def test_prompts_without_contrast_are_refused(run: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="none of the 4 prompts got both a right and a wrong answer in 8 samples"):
        run(stage=DPO(MakePairs(f"{HERE}.never", 4)), data=LabProblems(4))


def test_pairs_in_messages(
    run: Callable[..., Path], write_examples: Callable[..., ExampleFiles], chat_model: ModelSpec, chat_template: str
) -> None:
    def said(*turns: tuple[str, str]) -> list[dict[str, str]]:
        return [{"role": role, "content": content} for role, content in turns]

    whole = {
        "chosen": said(("user", "1+2="), ("assistant", "3")),
        "rejected": said(("user", "1+2="), ("assistant", "4")),
    }
    folder = run(model=chat_model, stage=DPO(), data=write_examples(*[whole] * 4), chat_template=chat_template)
    assert record(folder)["data"]["used"] == 4


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"beta": 0.0}, "stage.beta"), ({"loss": "no_such_loss"}, "no_such_loss")],
)
def test_wrong_settings_are_refused(
    changes: dict[str, Any], why: str, run: Callable[..., Path], write_examples: Callable[..., ExampleFiles]
) -> None:
    with pytest.raises(ConfigError, match=why):
        run(stage=DPO(**changes), data=write_examples(*PAIRS))
