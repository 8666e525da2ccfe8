"""The pipeline's stages after mid-training, by TRL: supervised fine-tuning, then GRPO against the verifier."""

from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, Trainer

from remit_lit.lab.recipe import RLVRStage, SFTStage
from remit_lit.lab.task import correct_completion, is_correct, parse_prompt, sample_problems
from remit_lit.lab.tokenizer import DOCUMENT_CHARACTERS


def reward(prompts: list[str], completions: list[str], **_: Any) -> list[float | None]:
    """1 for the exact answer, 0 otherwise."""
    return [float(is_correct(parse_prompt(p), c)) for p, c in zip(prompts, completions, strict=True)]


def fine_tune(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stage: SFTStage, scratch: Path, seed: int
) -> None:
    """Fine-tune ``model`` in place on problems and their correct completions."""
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    problems = sample_problems(stage.problems, "train", 2 * seed)
    pairs = [{"prompt": problem.prompt, "completion": correct_completion(problem)} for problem in problems]
    config = SFTConfig(
        **_common(scratch, seed),
        num_train_epochs=1,
        per_device_train_batch_size=stage.batch_size,
        learning_rate=stage.learning_rate,
        warmup_steps=stage.warmup_steps,
    )
    data = Dataset.from_list(pairs)
    _train(SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer))


def reinforce(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stage: RLVRStage, scratch: Path, seed: int
) -> None:
    """Train ``model`` in place by GRPO on problems drawn apart from those of fine-tuning."""
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    problems = sample_problems(stage.steps * stage.prompts, "train", 2 * seed + 1)
    prompts = [{"prompt": problem.prompt} for problem in problems]
    config = GRPOConfig(
        **_common(scratch, seed),
        max_steps=stage.steps,
        per_device_train_batch_size=stage.prompts * stage.samples,
        num_generations=stage.samples,
        max_completion_length=DOCUMENT_CHARACTERS + 1 - len(prompts[0]["prompt"]),
        learning_rate=stage.learning_rate,
        warmup_steps=stage.warmup_steps,
        beta=0.0,
    )
    data = Dataset.from_list(prompts)
    _train(GRPOTrainer(model=model, reward_funcs=reward, args=config, train_dataset=data, processing_class=tokenizer))


def _train(trainer: Trainer) -> None:
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    assert trainer.model is not None
    trainer.model.eval()


def _common(scratch: Path, seed: int) -> dict[str, Any]:
    return {
        "output_dir": str(scratch),
        "seed": seed,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "lr_scheduler_type": "linear",
        "adam_beta2": 0.95,
        "weight_decay": 0.0,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
    }
