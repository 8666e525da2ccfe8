"""Bits per byte of one's own text, against those of whole logits."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.benchmarks.catalogue import Catalogue
from remit_lit.data.lab_documents import LabDocuments
from remit_lit.errors import ConfigError, DataError
from remit_lit.evaluation.evaluate import evaluate
from remit_lit.evaluation.harness import run_tasks
from remit_lit.evaluation.results import Evaluation
from remit_lit.models import ModelSpec
from remit_lit.models.byte_tokenizer import build_byte_tokenizer
from remit_lit.training.callbacks.in_loop_evaluation import InLoopEvaluation
from tests.byte_level import BYTE_EOS
from tests.helpers import fit, llama_config

WINDOW = 16
TEXTS = ["short", "héllo 日本 🎉\r\n\x00", "exactly sixteen!", "a document of more bytes than a window of tokens holds"]
Write = Callable[[Sequence[str]], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(texts: Sequence[str]) -> str:
        path = tmp_path / "own.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        return str(path)

    return write


@pytest.fixture(scope="module")
def small() -> PreTrainedModel:
    """A random Llama for the byte-level tokenizer, with a window that documents do not fit in."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = {"vocab_size": 259, "max_position_embeddings": WINDOW, "initializer_range": 0.3}
        special = {"bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
        return LlamaForCausalLM(llama_config(**settings, **special)).eval()


def slow_nats(model: PreTrainedModel, text: str, first: int) -> float:
    """Log-likelihood of the bytes a window after another, the last of which reaches back until it is whole."""
    tokens, total = [first, *text.encode()], 0.0
    for start in range(1, len(tokens), WINDOW):
        end = min(start + WINDOW, len(tokens))
        piece = torch.tensor([tokens[max(0, end - WINDOW - 1) : end]])
        with torch.no_grad():
            found = model(piece[:, :-1]).logits[0].double().log_softmax(-1)
        total += found.gather(1, piece[0, 1:, None])[start - end :].sum().item()
    return total


@pytest.mark.parametrize("batch_size", [1, 3])
def test_bits_per_byte_are_those_of_the_logits(batch_size: int, small: PreTrainedModel, write: Write) -> None:
    path = write(TEXTS)
    result = run_tasks(small, build_byte_tokenizer(), [path], batch_size=batch_size)[path]
    found = result.metrics["bits_per_byte"]
    sizes = [len(text.encode()) for text in TEXTS]
    nats = [slow_nats(small, text, first=256) for text in TEXTS]
    expected = [-value / math.log(2) / size for value, size in zip(nats, sizes, strict=True)]
    np.testing.assert_allclose(found.outcomes, expected, rtol=1e-4)
    assert found.weights is not None and found.weights.tolist() == sizes
    assert found.value == pytest.approx(-sum(nats) / math.log(2) / sum(sizes), rel=1e-4)
    assert found.higher_is_better is False


def test_a_tokenizer_without_bos_begins_after_eos(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, write: Write
) -> None:
    path = write(["short"])
    found = run_tasks(model, tokenizer, [path])[path].metrics["bits_per_byte"]
    assert found.value == pytest.approx(-slow_nats(model, "short", first=BYTE_EOS) / math.log(2) / 5, rel=1e-4)


def test_items_are_the_documents_with_text_and_a_limit_takes_the_first(small: PreTrainedModel, write: Write) -> None:
    path = write(["", *TEXTS])
    whole, first = (run_tasks(small, build_byte_tokenizer(), [path], limit=limit)[path] for limit in (None, 2))
    assert len(set(whole.items)) == len(TEXTS)
    assert first.items == whole.items[:2]
    np.testing.assert_allclose(
        first.metrics["bits_per_byte"].outcomes, whole.metrics["bits_per_byte"].outcomes[:2], rtol=1e-4
    )


def test_evaluate_writes_it_like_any_task(small: PreTrainedModel, write: Write, tmp_path: Path) -> None:
    small.save_pretrained(tmp_path / "model")
    build_byte_tokenizer().save_pretrained(tmp_path / "model")
    path = write(TEXTS)
    output = evaluate(ModelSpec(path=str(tmp_path / "model")), [path], str(tmp_path / "out.json"), accelerator="cpu")
    task = Evaluation.read(output).tasks[path]
    assert task.not_run is None and len(task.items) == len(task.metrics["bits_per_byte"].outcomes) == len(TEXTS)


def test_it_is_a_learning_curve(tiny_rows: Path, tiny_policy_dir: Path, write: Write, tmp_path: Path) -> None:
    path = write([text for text in LabDocuments("web", 3).read("0") if text])
    callback = InLoopEvaluation([path], every_n_steps=1)
    run = fit(tiny_rows, tiny_policy_dir, tmp_path / "run", steps=2, callbacks=[callback])
    assert run.module.policy is not None and run.module.tokenizer is not None
    last = run_tasks(run.module.policy, run.module.tokenizer, [path])[path].metrics["bits_per_byte"].value
    assert [list(point.figures) for point in callback.history] == [[f"{path}/bits_per_byte"]] * 2
    assert callback.history[-1].figures[f"{path}/bits_per_byte"] == pytest.approx(last, rel=1e-4)


def test_a_file_that_is_not_there_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tasks: there is no file 'none\.jsonl'"):
        Catalogue(tmp_path).resolve(["none.jsonl"])


@pytest.mark.parametrize(
    ("content", "problem"),
    [("", "no document with text"), ('{"text": ""}\n', "no document with text"), ('{"text": 1}\n', "line 1: field")],
)
def test_a_file_without_text_is_refused(content: str, problem: str, small: PreTrainedModel, tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text(content)
    with pytest.raises(DataError, match=problem):
        run_tasks(small, build_byte_tokenizer(), [str(tmp_path / "own.jsonl")])
