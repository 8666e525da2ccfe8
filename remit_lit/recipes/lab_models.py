"""From nothing to the lab's models: base -> mid-training -> SFT -> RLVR, each measured on dev and test problems."""

import importlib.metadata
import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from remit_lit import __version__
from remit_lit.data.lab_documents import LabDocuments
from remit_lit.data.settings import PrepareSettings
from remit_lit.errors import ConfigError
from remit_lit.lab.evaluation import lab_accuracy
from remit_lit.lab.task import sample_problems
from remit_lit.lab.tokenizer import DOCUMENT_CHARACTERS, build_tokenizer
from remit_lit.models.export import let_others_read
from remit_lit.models.spec import ModelSpec
from remit_lit.posttraining.examples import LabProblems
from remit_lit.posttraining.held_out import LabHeldOut, check_held_out
from remit_lit.posttraining.rlvr import RLVR
from remit_lit.posttraining.sft import SFT
from remit_lit.posttraining.stage import Stage, Training, train
from remit_lit.recipes.lab_budgets import (
    DOCUMENTS_PER_ROW,
    GATE,
    GATE_FIGURE,
    GATE_STEPS,
    ROWS_PER_STEP,
    SEQUENCE_LENGTH,
    PretrainingStage,
    Recipe,
    RLVRStage,
    SFTStage,
    model_config,
)
from remit_lit.training.callbacks.lab_evaluation import LabEvaluation
from remit_lit.training.callbacks.stop_when_reached import StopWhenReached
from remit_lit.training.datamodule import PackedData
from remit_lit.training.module import MidTrainingModule
from remit_lit.training.optimization import Cosine, Horizon

PROVENANCE = "provenance.json"
STAGES = ("base", "mid", "sft", "reference")


_PACKAGES = ("torch", "lightning", "transformers", "tokenizers", "datasets", "trl")


def build(output: str, seed: int = 0, recipe: Recipe | None = None) -> dict[str, Any]:
    """Train the four models of the pipeline and write each as a Hugging Face directory.

    Runs on one thread: at this size more threads gain little, and the sums come out the same on any machine of a kind.

    Args:
        output: directory to write ``base``, ``mid``, ``sft``, ``reference`` and ``provenance.json`` to.
        seed: of the weights, documents, problems and samples.
        recipe: budgets of the stages; None takes those of the embedded models.

    Returns:
        What ``provenance.json`` holds: command, seed, versions, recipe; accuracies and seconds of each stage.

    Raises:
        ConfigError: ``output`` holds models already, or the ``posttrain`` extra is not installed.
    """
    directory, recipe = Path(output), recipe or Recipe()
    for name in STAGES:
        if (directory / name).exists():
            raise ConfigError(f"output: {directory / name} exists; give another directory")
    try:
        versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; pip install 'remit_lit[posttrain]'") from error
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            stages = _run(directory, Path(scratch), seed, recipe)
    finally:
        torch.set_num_threads(threads)
    record = {
        "command": f"python -m remit_lit.recipes lab --seed {seed}",
        "seed": seed,
        "versions": {"remit_lit": __version__, "python": platform.python_version(), **versions},
        "recipe": asdict(recipe),
        "stages": stages,
    }
    (directory / PROVENANCE).write_text(json.dumps(record, indent=2) + "\n")
    return record


def _run(directory: Path, scratch: Path, seed: int, recipe: Recipe) -> dict[str, dict[str, float]]:
    tokenizer = build_tokenizer()
    vocabulary = scratch / "tokenizer"
    tokenizer.save_pretrained(vocabulary)
    fresh = ModelSpec(config=model_config(), tokenizer=str(vocabulary))
    base, mid = ModelSpec(path=str(directory / "base")), str(directory / "mid")

    # Base and mid-training draw different documents; SFT starts from the mid-trained model, RLVR from the SFT model.
    steps: dict[str, Callable[[], PreTrainedModel]] = {
        "base": lambda: pretrain(fresh, vocabulary, recipe.base, scratch / "base", 2 * seed),
        "mid": lambda: pretrain(base, vocabulary, recipe.mid, scratch / "mid", 2 * seed + 1),
        "sft": lambda: _tuned(mid, lambda m: fine_tune(m, tokenizer, recipe.sft, scratch, seed)),
        "reference": lambda: _tuned(
            str(directory / "sft"), lambda m: reinforce(m, tokenizer, recipe.rlvr, scratch, seed)
        ),
    }
    stages = {}
    for name in STAGES:
        started, cpu_started = time.perf_counter(), time.process_time()
        model = steps[name]()
        # On a busy machine the two differ; one thread works, so the CPU's seconds are those of an idle machine.
        seconds = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu_started}
        _save(model, tokenizer, directory / name)
        figures = {key: round(value, 1) for key, value in seconds.items()}
        stages[name] = {**figures, **_measure(model, tokenizer, recipe)}
        print(f"{name}: {stages[name]}", flush=True)
    return stages


def _tuned(path: str, tune: Callable[[PreTrainedModel], None]) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(path)
    tune(model)
    return model


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    let_others_read(directory)


def _measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> dict[str, float]:
    dev = lab_accuracy(model, tokenizer, sample_problems(recipe.dev_problems, "dev"))
    test = lab_accuracy(model, tokenizer, sample_problems(recipe.test_problems, "test"))
    return {
        "dev_accuracy": round(dev.accuracy, 4),
        "test_accuracy": round(test.accuracy, 4),
        "test_standard_error": round(test.standard_error, 4),
    }


def pretrain(policy: ModelSpec, tokenizer: Path, stage: PretrainingStage, rows: Path, seed: int) -> PreTrainedModel:
    """Train a policy on freshly prepared documents by next-token prediction, on the CPU.

    Args:
        policy: where the model starts.
        tokenizer: directory of the lab's tokenizer.
        stage: what to train on, and how.
        rows: directory to write the packed rows to.
        seed: of the documents, their order, and a fresh model's weights.
    """
    pl.seed_everything(seed, verbose=False)
    settings = PrepareSettings(
        tokenizer=str(tokenizer),
        sources=stage.sources(seed),
        sequence_length=SEQUENCE_LENGTH,
        validation={"correct": LabDocuments("correct", ROWS_PER_STEP * DOCUMENTS_PER_ROW, split="dev")},
        seed=seed,
    )
    gate = [] if stage.reach is None else [LabEvaluation(**GATE), StopWhenReached(GATE_FIGURE, stage.reach)]
    module = MidTrainingModule(
        policy=policy,
        optimizer=partial(torch.optim.AdamW, lr=stage.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
        horizon=Horizon(steps=stage.steps),
        schedule=Cosine(warmup_steps=stage.warmup_steps, final=stage.final),
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        gradient_clip_val=1.0,
        callbacks=gate,
        val_check_interval=GATE_STEPS if gate else None,
        limit_val_batches=1 if gate else 0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=rows.parent,
    )
    trainer.fit(module, PackedData(str(rows), ROWS_PER_STEP, settings, num_workers=0, seed=seed))
    assert module.policy is not None
    return module.policy.eval()


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
    rlvr = RLVR("remit_lit.posttraining.rewards.lab_trace", answer_tokens, stage.samples)
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
