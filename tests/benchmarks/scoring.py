"""``score`` against the bare model's forward with full logits."""

import contextlib
import io
import re
import shutil
import statistics

import datasets
import torch
from transformers import AutoModelForCausalLM

from remit_lit.data.columns import column_directory
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.score import score
from tests.benchmarks.measure import Figure, interleave, ratio, seconds
from tests.benchmarks.setting import TIME, model, rows

_BATCH_TOKENS = 8192


def figures(repeats: int) -> list[Figure]:
    """Tokens per second of scoring all rows, without loading the model."""
    input_ids = torch.tensor(datasets.load_from_disk(str(rows() / "train"))["input_ids"])  # [rows, time]
    policy = AutoModelForCausalLM.from_pretrained(model()).eval()

    def forward() -> None:
        for batch in input_ids.split(_BATCH_TOKENS // TIME):
            policy(input_ids=batch, use_cache=False)

    def kit() -> float:
        shutil.rmtree(column_directory(rows(), "train", "bench"), ignore_errors=True)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            score(str(rows()), ModelSpec(str(model())), "bench", document_attention=False, batch_tokens=_BATCH_TOKENS)
        found = re.search(r"scored [\d,]+ tokens in ([\d.]+) s", printed.getvalue())
        assert found is not None
        return float(found[1])

    with torch.inference_mode():
        times = interleave({"kit": kit, "bare": lambda: seconds(forward)}, repeats)
    rate = {name: input_ids.numel() / statistics.median(found) for name, found in times.items()}
    note = f"{rate['kit']:,.0f} against {rate['bare']:,.0f} tokens/s, {_BATCH_TOKENS:,} tokens at a time"
    return [
        ratio("`score` / the model's forward with full logits, tokens/s", times["bare"], times["kit"], ">= 1.00", note)
    ]
