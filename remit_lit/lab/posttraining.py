"""The pipeline's stages after mid-training: the kit's SFT and RLVR with the lab's recipe."""

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.lab.recipe import RLVRStage, SFTStage
from remit_lit.lab.tokenizer import DOCUMENT_CHARACTERS
from remit_lit.posttraining.examples import LabProblems
from remit_lit.posttraining.held_out import LabHeldOut, check_held_out
from remit_lit.posttraining.rlvr import RLVR
from remit_lit.posttraining.sft import SFT
from remit_lit.posttraining.stage import Stage, Training
from remit_lit.posttraining.train import train


def fine_tune(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stage: SFTStage, scratch: Path, seed: int
) -> None:
    """Fine-tune ``model`` in place on problems and their correct completions."""
    training = _training(stage, stage.batch_size)
    _train(SFT(), training, LabProblems(stage.problems, 2 * seed), model, tokenizer, scratch, seed)


def reinforce(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stage: RLVRStage, scratch: Path, seed: int
) -> None:
    """Train ``model`` in place by GRPO on problems drawn apart from those of fine-tuning."""
    training = _training(stage, stage.prompts * stage.samples, stage.steps)
    problems = LabProblems(stage.steps * stage.prompts, 2 * seed + 1)
    answer_tokens = DOCUMENT_CHARACTERS + 1 - len(problems.load()["prompt"][0])
    rlvr = RLVR("remit_lit.posttraining.rewards.lab_answer", answer_tokens, stage.samples)
    _train(rlvr, training, problems, model, tokenizer, scratch, seed)


def _training(stage: SFTStage | RLVRStage, batch_size: int, steps: int | None = None) -> Training:
    return Training(
        learning_rate=stage.learning_rate,
        batch_size=batch_size,
        steps=steps,
        warmup=stage.warmup_steps,
        beta2=0.95,
        accelerator="cpu",
        save_steps=None,
    )


def _train(
    stage: Stage,
    training: Training,
    problems: LabProblems,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    scratch: Path,
    seed: int,
) -> None:
    examples = problems.load()
    check_held_out(examples, [LabHeldOut()])
    prepared = stage.prepare(examples, model, tokenizer, seed)
    train(stage, training, prepared, model, tokenizer, scratch, seed)
