"""SFT: which tokens are learned, what is left out, and packing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from remit_lit.errors import ConfigError, DataError
from remit_lit.models.spec import ModelSpec
from remit_lit.posttraining.examples import ExampleFiles
from remit_lit.posttraining.run_folder import RunFolder
from remit_lit.posttraining.sft import SFT
from tests.posttraining.conftest import CHAT_TEMPLATE, training
from tests.processes import furthest

SHORT = {"prompt": "Q:1=", "completion": "2#3"}
LONG = {"prompt": "Q:1=", "completion": "2#34501230"}


def record(run: Path) -> dict[str, Any]:
    return RunFolder(str(run), overwrite=False, resume=True).record


def trained_batch(policy: Any, rows: list[dict[str, Any]], tmp_path: Path, **tokenizer_changes: Any) -> Any:
    """The batch that TRL's trainer makes of all rows."""
    tokenizer = AutoTokenizer.from_pretrained(policy)
    for name, value in tokenizer_changes.items():
        setattr(tokenizer, name, value)
    model, stage = AutoModelForCausalLM.from_pretrained(policy), SFT()
    prepared = stage.prepare(Dataset.from_list(rows), model, tokenizer, 0)
    config = stage.config(training(), tmp_path, 0, prepared.max_length, "messages" in prepared.examples.column_names)
    trainer: Any = stage.trainer(model, tokenizer, prepared.examples, config)
    return trainer.data_collator([trainer.train_dataset[index] for index in range(len(rows))])


@pytest.mark.parametrize("pad", ["_", "\n"])
def test_the_answer_and_its_eos_are_learned_also_where_padding_is_eos(
    pad: str, tiny_policy_dir: Path, tmp_path: Path
) -> None:
    batch = trained_batch(tiny_policy_dir, [SHORT, LONG], tmp_path, pad_token=pad)
    tokenizer = AutoTokenizer.from_pretrained(tiny_policy_dir)
    for labels, row in zip(batch["labels"], (SHORT, LONG), strict=True):
        assert tokenizer.decode(labels[labels != -100]) == row["completion"] + "\n"


def test_without_a_padding_token_eos_pads_and_is_learned(tiny_policy_dir: Path, tmp_path: Path) -> None:
    batch = trained_batch(tiny_policy_dir, [SHORT, LONG], tmp_path, pad_token=None)
    assert [(labels == 1).sum().item() for labels in batch["labels"]] == [1, 1]


def test_of_messages_the_assistants_turns_are_learned(chat_model: ModelSpec, tmp_path: Path) -> None:
    turns = [("user", "1+2="), ("assistant", "3"), ("user", "3+4="), ("assistant", "7")]
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    batch = trained_batch(chat_model.path, [row], tmp_path, chat_template=CHAT_TEMPLATE)
    labels = batch["labels"][0]
    assert chat_model.load_tokenizer().decode(labels[labels != -100]) == "3~7~"


def test_the_loss_is_the_mean_over_answers_in_nats(
    run: Callable[..., Path], tiny_policy_dir: Path, write_examples: Callable[..., ExampleFiles]
) -> None:
    rows = [SHORT, LONG]
    folder = run(data=write_examples(*rows), training=training(batch_size=2, steps=1))
    tokenizer, model = (
        AutoTokenizer.from_pretrained(tiny_policy_dir),
        AutoModelForCausalLM.from_pretrained(tiny_policy_dir),
    )
    nll = []
    for row in rows:
        ids = tokenizer(row["prompt"] + row["completion"] + "\n", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logp = model(ids).logits[0, :-1].log_softmax(-1)
        each = -logp[torch.arange(ids.shape[1] - 1), ids[0, 1:]]
        nll += each[len(row["prompt"]) :].tolist()
    assert record(folder)["results"]["loss"] == pytest.approx(sum(nll) / len(nll), rel=1e-5)


def test_packed_examples_do_not_see_each_other(run: Callable[..., Path], tmp_path: Path) -> None:
    """One step on all examples is the same step, packed or not."""
    one = training(batch_size=8, steps=1, learning_rate=1e-3)
    apart = run(stage=SFT(), training=one, run_dir=str(tmp_path / "apart"))
    packed = run(stage=SFT(packing=True), training=one, run_dir=str(tmp_path / "packed"))
    losses = [record(folder)["results"]["loss"] for folder in (apart, packed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    weights = [load_file(folder / "model" / "model.safetensors") for folder in (apart, packed)]
    # A step of AdamW moves a weight by the learning rate; other gradients would move some the other way.
    assert furthest(*weights) < 1e-4


def test_examples_beyond_the_window_are_counted_and_dropped(
    run: Callable[..., Path], write_examples: Callable[..., ExampleFiles]
) -> None:
    tokens = len("^Q:1=2#3\n")
    folder = run(data=write_examples(*[SHORT] * 4, LONG), stage=SFT(max_length=tokens))
    assert record(folder)["dropped"] == {"too_long": 1}
    assert record(folder)["data"]["used"] == 4
    assert "4 of 5 examples" in (folder / "model" / "README.md").read_text()


@pytest.mark.parametrize(("rows", "on_too_long"), [([SHORT, LONG], "refuse"), ([LONG, LONG], "drop")])
def test_examples_beyond_the_window_are_refused(
    rows: list[Any], on_too_long: Any, run: Callable[..., Path], write_examples: Callable[..., ExampleFiles]
) -> None:
    with pytest.raises(DataError, match=r"are longer than 9 tokens \(the first is example \d, with 16\)"):
        run(data=write_examples(*rows), stage=SFT(max_length=9, on_too_long=on_too_long))


def test_a_window_larger_than_the_models_is_refused(run: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match=r"stage.max_length: got 4096; this model reads at most 132"):
        run(stage=SFT(max_length=4096))


ASKED = {"role": "user", "content": "1+2="}
ANSWERED = {"role": "assistant", "content": "3"}


def test_messages_need_a_chat_template(run: Callable[..., Path], write_examples: Callable[..., ExampleFiles]) -> None:
    with pytest.raises(ConfigError, match=r"chat_template: .*has no chat template; give a Jinja file with"):
        run(data=write_examples({"messages": [ASKED, ANSWERED]}))


def test_a_given_chat_template_is_used_and_kept(
    run: Callable[..., Path], write_examples: Callable[..., ExampleFiles], chat_model: ModelSpec, chat_template: str
) -> None:
    data = write_examples(*[{"messages": [ASKED, ANSWERED]}] * 4)
    folder = run(model=chat_model, data=data, chat_template=chat_template)
    assert AutoTokenizer.from_pretrained(folder / "model").chat_template == CHAT_TEMPLATE


def test_a_chat_template_that_marks_no_answers_is_refused(
    run: Callable[..., Path], write_examples: Callable[..., ExampleFiles], tmp_path: Path
) -> None:
    (tmp_path / "plain.jinja").write_text("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    with pytest.raises(ConfigError, match=r"does not mark the assistant's answers.*generation"):
        run(data=write_examples({"messages": [ASKED, ANSWERED]}), chat_template=str(tmp_path / "plain.jinja"))


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"question": "a"}, "the stage needs prompt and completion, or messages"),
        ({"prompt": "1=", "completion": 3}, "completion of example 0 is '3'; give text, or messages"),
        ({"prompt": "1=", "completion": None}, "completion of example 0 is 'None'"),
        ({"prompt": [ASKED], "completion": "3"}, "example 0 mixes text and messages"),
        ({"messages": [{"role": "user"}]}, "messages of example 0"),
        ({"messages": [ASKED]}, "example 0 has no message of the assistant"),
    ],
)
def test_malformed_examples_are_named(
    row: dict[str, Any],
    why: str,
    run: Callable[..., Path],
    write_examples: Callable[..., ExampleFiles],
    chat_template: str,
) -> None:
    with pytest.raises(DataError, match=why):
        run(data=write_examples(row), chat_template=chat_template)
