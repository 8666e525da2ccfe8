"""Half precision leaves the frequencies of rotary embeddings exact."""

from pathlib import Path
from typing import Any

import torch

from tests.helpers import TIME, fit, llama_config


def test_training_in_bfloat16_turns_positions_by_exact_frequencies(
    tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path
) -> None:
    run = fit(tiny_rows_split, tiny_policy_dir, tmp_path, steps=1, trainer={"precision": "bf16-true"})
    assert {value.dtype for value in run.parameters.values()} == {torch.bfloat16}
    config: Any = llama_config()
    size = config.hidden_size // config.num_attention_heads
    expected = [config.rope_parameters["rope_theta"] ** (-pair / size) for pair in range(0, size, 2)]
    frequencies = dict(run.policy.named_buffers())["model.rotary_emb.inv_freq"]
    torch.testing.assert_close(frequencies, torch.tensor(expected), rtol=1e-6, atol=1e-6 / TIME)
