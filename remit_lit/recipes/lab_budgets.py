"""The budgets of the embedded pipeline, chosen on dev problems, and the config of its small model.

Bases differ in when they leave the plateau on which no step is solved: with four seeds, between 375 and 975 steps. So
the base stops at a dev NLL and not after a number of steps, and mid-training then ends between 35 % and 42 % of exact
traces with each of them, far from both ends of the scale.
"""

from dataclasses import dataclass
from typing import Any

from remit_lit.data.lab_documents import LabDocuments
from remit_lit.data.sources import Source
from remit_lit.lab.task import DEV_PROBLEMS, TEST_PROBLEMS
from remit_lit.lab.tokenizer import DOCUMENT_TOKENS, lab_vocabulary

DOCUMENTS_PER_ROW = 4
SEQUENCE_LENGTH = DOCUMENTS_PER_ROW * DOCUMENT_TOKENS
ROWS_PER_STEP = 8
_DOCUMENTS_PER_STEP = ROWS_PER_STEP * DOCUMENTS_PER_ROW
GATE_FIGURE = "lab/nll_correct_result"
"""What a stage with ``reach`` must bring down."""
GATE_STEPS = 10
"""Optimizer steps from one look at it to the next."""
GATE = {"problems": 50, "documents": 100}
"""How many dev problems and documents of each kind a look takes."""


def model_config() -> dict[str, Any]:
    """The config of a fresh Llama with 62k parameters.

    The usual initializer_range of 0.02 is too small at this width to leave the plateau in time, and the usual
    rope_theta of 10,000 turns too slowly for 33 positions.
    """
    vocabulary = lab_vocabulary()
    return {
        "model_type": "llama",
        "vocab_size": len(vocabulary),
        "hidden_size": 48,
        "intermediate_size": 144,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": SEQUENCE_LENGTH,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
        "initializer_range": 0.1,
        "tie_word_embeddings": True,
        "bos_token_id": vocabulary["^"],
        "eos_token_id": vocabulary["\n"],
        "pad_token_id": vocabulary["_"],
    }


@dataclass(frozen=True)
class PretrainingStage:
    """A stage on packed rows by next-token prediction, with AdamW and a cosine schedule.

    Attributes:
        steps: optimizer steps of 32 documents (1,056 tokens) each; with ``reach`` the most that there may be.
        task_share: share of task documents, half of them with misconception traces.
        final: share of the peak learning rate at the end.
        noise_share: share of noise in the remaining, web-like documents.
        learning_rate: peak.
        warmup_steps: of them, with a linearly rising rate.
        reach: NLL of correct results on dev documents, in nats, at which training stops; None trains all steps.
    """

    steps: int
    task_share: float
    final: float
    learning_rate: float
    noise_share: float = 0.2
    warmup_steps: int = 20
    reach: float | None = None

    def documents(self) -> dict[str, int]:
        """Documents of each kind; each is seen once."""
        total = self.steps * _DOCUMENTS_PER_STEP
        wrong = round(total * self.task_share / 2)
        noise = round(total * (1 - self.task_share) * self.noise_share)
        correct = round(total * self.task_share) - wrong
        return {"web": total - correct - wrong - noise, "noise": noise, "correct": correct, "wrong": wrong}

    def sources(self, seed: int) -> dict[str, Source]:
        """The training documents as sources of ``prepare``."""
        counts = {kind: count for kind, count in self.documents().items() if count}
        return {kind: LabDocuments(kind, count, seed) for kind, count in counts.items()}  # type: ignore[arg-type]


@dataclass(frozen=True)
class SFTStage:
    """Supervised fine-tuning on correct completions: one epoch, learning rate linear to zero, loss on completions.

    Short, so that RLVR has room: from 41 % of exact traces on dev problems (seed 103) 512 problems reach 51 %,
    1,024 reach 56 %, and 2,048 reach 66 %.
    """

    problems: int = 1024
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup_steps: int = 5


@dataclass(frozen=True)
class RLVRStage:
    """GRPO without a KL term, rewarded for whole exact traces (``lab_trace``); learning rate linear to zero.

    On dev problems (seed 103) it goes from 56 % of exact traces to 68 %. From 51 %, 80 steps reach 59 %; rewarded for
    the answer alone, at twice the rate, they end at 45 %, since many wrong traces end in the right answer.
    """

    steps: int = 120
    prompts: int = 32
    samples: int = 8
    learning_rate: float = 5e-4
    warmup_steps: int = 5


@dataclass(frozen=True)
class Recipe:
    """The stages from a fresh model to the RL-tuned reference, and how many problems measure each."""

    base: PretrainingStage = PretrainingStage(1500, task_share=0.4, final=1.0, learning_rate=5e-3, reach=0.9)
    mid: PretrainingStage = PretrainingStage(300, task_share=0.4, final=0.02, learning_rate=3e-3)
    sft: SFTStage = SFTStage()
    rlvr: RLVRStage = RLVRStage()
    dev_problems: int = DEV_PROBLEMS
    test_problems: int = TEST_PROBLEMS
