"""vLLM itself against transformers; skipped where there is no GPU, or no vLLM."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from remit_lit.evaluation.evaluate import evaluate
from remit_lit.evaluation.results import Evaluation
from remit_lit.models.spec import ModelSpec
from tests.byte_level import BYTE_EOS, byte_tokenizer
from tests.helpers import save_model

pytestmark = pytest.mark.gpu


def test_vllm_has_the_outcomes_of_transformers(accelerator: str, tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vllm is not installed here")
    if accelerator != "gpu":
        pytest.skip("vLLM needs an NVIDIA GPU")
    sizes = {"vocab_size": BYTE_EOS + 1, "hidden_size": 256, "intermediate_size": 512, "max_position_embeddings": 512}
    ids = {"bos_token_id": None, "eos_token_id": BYTE_EOS, "pad_token_id": None}
    model = ModelSpec(str(save_model(tmp_path / "model", 1, byte_tokenizer(), **sizes, **ids)))
    texts = ("Short.", "Nothing ventured, nothing gained. " * 20)
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    backends: dict[Any, dict[str, Any]] = {"hf": {}, "vllm": {"vllm": {"gpu_memory_utilization": 0.3}}}
    outcomes = []
    for backend, options in backends.items():
        file = evaluate(
            *(model, [str(tmp_path / "mine.jsonl")], str(tmp_path / f"{backend}.json")),
            max_length=200,
            accelerator="gpu",
            backend=backend,
            **options,
        )
        (found,) = Evaluation.read(file).tasks.values()
        outcomes.append(found.metrics["bits_per_byte"].outcomes)
    np.testing.assert_allclose(outcomes[1], outcomes[0], rtol=1e-2)
