import gc
import json
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

pytest.importorskip("trl")

from remit_lit.models.spec import ModelSpec
from remit_lit.posttraining.examples import ExampleFiles, LabProblems
from remit_lit.posttraining.posttrain import posttrain
from remit_lit.posttraining.sft import SFT
from remit_lit.posttraining.stage import Training
from tests.helpers import save_model

# Marks the assistant's answers, and ends them with EOS.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}~{% endgeneration %}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
)
CHARACTERS = "_~?" + string.digits + string.ascii_lowercase + "+-*=:Q "


def training(**changes: Any) -> Training:
    """Two steps on the CPU."""
    settings = {"learning_rate": 1e-2, "batch_size": 4, "steps": 2, "accelerator": "cpu", "log_steps": 1}
    return Training(**{**settings, "save_steps": None, **changes})


@pytest.fixture(scope="package", autouse=True)
def imports_apart() -> Iterator[None]:
    """Keep what is imported out of garbage collection, which accelerate runs after each training."""
    import trl.trainer.dpo_trainer
    import trl.trainer.grpo_trainer
    import trl.trainer.sft_trainer  # noqa: F401

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def write_examples(tmp_path: Path) -> Callable[..., ExampleFiles]:
    """Examples in a file of their own."""

    def write(*rows: dict[str, Any], name: str = "examples.jsonl") -> ExampleFiles:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return ExampleFiles(str(path))

    return write


@pytest.fixture
def chat_template(tmp_path: Path) -> str:
    path = tmp_path / "template.jinja"
    path.write_text(CHAT_TEMPLATE)
    return str(path)


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    """A random Llama whose tokenizer, unlike the lab's, takes any text: _ pads, ~ ends, ? is unknown."""
    directory = tmp_path_factory.mktemp("chat")
    save_model(directory, seed=1, vocab_size=len(CHARACTERS), eos_token_id=1, pad_token_id=0)
    tokenizer = Tokenizer(models.WordLevel({text: index for index, text in enumerate(CHARACTERS)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="?", eos_token="~", pad_token="_", clean_up_tokenization_spaces=False
    ).save_pretrained(directory)
    return ModelSpec(str(directory))


@pytest.fixture
def run(tiny_policy_dir: Path, tmp_path: Path) -> Callable[..., Path]:
    """Post-train the tiny policy for two steps; the run folder. SFT on eight problems where nothing else is said."""

    def start(**changes: Any) -> Path:
        settings: dict[str, Any] = {
            "model": ModelSpec(str(tiny_policy_dir)),
            "stage": SFT(),
            "data": LabProblems(8),
            "training": training(),
            "run_dir": str(tmp_path / "run"),
        }
        return posttrain(**{**settings, **changes}).parent

    return start
