"""Loss curves of tiny runs, one per strategy, as they are kept in this directory.

Their documents and tokenizer are kept here too, so that the curves move with what training
computes and with nothing else.
"""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from remit_lit.data.sources import JsonLines
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import LiveReference
from remit_lit.reference.score import score
from remit_lit.training.distillation import Distillation
from remit_lit.training.optimization import Linear
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
    TokenWeighting,
)
from tests.helpers import fit, make_rows, save_model

DIRECTORY = Path(__file__).parent
STEPS = 20
STRATEGIES: dict[str, TokenWeighting] = {
    "ntp": NextTokenPrediction(),
    "remit": ReMiT(),
    "remit-standardized": ReMiT(center="standardized"),
    "remit-reference": ReMiT(delta="reference"),
    "shuffled": ShuffledReMiT(),
    "rho1": Rho1(),
    "rho1-step": Rho1(scope="step"),
    "dft": DFT(),
    "eslm": ESLM(),
    "eslm-entropy": ESLM(risk="entropy", scope="row"),
    "rlsd": RLSD(),
    "long-range": LongRange(),
    "token-filter": TokenFilter(threshold=3.5),
    "miniplm": MiniPLM(),
    "distillation": NextTokenPrediction(),
    "distillation-switch": NextTokenPrediction(),
}
DISTILLATIONS = {
    "distillation": Distillation(),
    "distillation-switch": Distillation(divergence="reverse_kl", temperature=2.0, switch=0.2),
}


def make_inputs(root: Path) -> tuple[Path, Path, Path]:
    """Rows of 50 tokens, which cut documents, a random policy, and another as the reference, in ``root``.

    The rows have the policy's NLLs as labels.
    """
    tokenizer = AutoTokenizer.from_pretrained(DIRECTORY / "tokenizer")
    policy = save_model(root / "policy", 1, tokenizer)
    sources = {kind: JsonLines(str(DIRECTORY / "documents" / f"{kind}.jsonl")) for kind in ("web", "correct")}
    rows = make_rows(root / "rows", policy, 50, sources=dict(sources))
    score(str(rows), ModelSpec(str(policy)), "labels", dtype="float32", accelerator="cpu")
    return rows, policy, save_model(root / "reference", 2, tokenizer)


def curve(name: str, rows: Path, policy: Path, reference: Path, run_dir: Path, **changes: Any) -> dict[str, Any]:
    """Loss of each step of a run, by default on the CPU, and the rows that it trained on."""
    torch.manual_seed(0)
    run = fit(
        rows,
        policy,
        run_dir,
        steps=STEPS,
        weighting=STRATEGIES[name],
        reference=LiveReference(ModelSpec(str(reference))),
        distillation=DISTILLATIONS.get(name),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=3e-3, weight_decay=0.1),
        schedule=Linear(warmup_steps=2),
        no_decay=["embeddings", "vectors"],
        accumulate=2,
        repeat_chosen=True,
        **changes,
    )
    return {"rows": run.recorder.rows, "losses": run.losses}


def golden_path(name: str) -> Path:
    return DIRECTORY / f"{name}.json"


def read_golden(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(golden_path(name).read_text())
    return result
