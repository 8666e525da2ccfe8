"""``posttrain``: one stage of post-training, from a Hugging Face directory to another."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer
from transformers.integrations.integration_utils import TensorBoardCallback

from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec
from remit_lit.posttraining.chat_template import check_template, read_template
from remit_lit.posttraining.dev_problems import DevProgress
from remit_lit.posttraining.dpo import DPO
from remit_lit.posttraining.examples import Examples, require_same_everywhere
from remit_lit.posttraining.held_out import HeldOut, check_held_out
from remit_lit.posttraining.rlvr import RLVR
from remit_lit.posttraining.run_folder import RunFolder, RunLog
from remit_lit.posttraining.sft import SFT
from remit_lit.posttraining.stage import Prepared, Stage, Training, train
from remit_lit.posttraining.weight_precision import require_moving_weights
from remit_lit.runs.configuration import configuration
from remit_lit.runs.folder import global_rank
from remit_lit.runs.provenance import now
from remit_lit.runs.ranks import world_size

# Configs find the classes by their short names once they are imported.
STAGES = (SFT, DPO, RLVR)


def posttrain(
    model: ModelSpec,
    stage: Stage,
    data: Examples,
    training: Training,
    run_dir: str,
    held_out: list[HeldOut] | None = None,
    progress: DevProgress | None = None,
    chat_template: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
) -> Path:
    """Train a model by SFT, DPO or RLVR; the run folder gets config.yaml, run.json, metrics.csv, checkpoints and model.

    A run that was killed at any moment and is started again with ``resume`` continues from its newest checkpoint; a
    finished run is left as it is.

    Args:
        model: the model to start from.
        stage: how to train it: SFT, DPO or RLVR.
        data: the examples to train on.
        training: optimizer, batch size, precision and checkpoints.
        run_dir: the folder to write the run to.
        held_out: problems that must not be in the data, e.g. those of a benchmark; finding one ends the run before it
            trains. The problems of ``progress`` are always held out.
        progress: dev problems on which to measure pass@k before and after training, and the KL divergence from the
            starting model; null measures nothing.
        chat_template: a Jinja file that replaces the tokenizer's chat template; needed where examples are messages and
            the tokenizer has none.
        seed: the seed of the order of the examples and of sampling; change it to repeat a run.
        overwrite: replace an earlier run in run_dir.
        resume: continue an earlier run in run_dir.

    Returns:
        The directory of the model.

    Raises:
        ConfigError: a setting cannot work, or the folder holds a run with other settings.
        DataError: the data are malformed, nothing is left of them, or an example is held out.
        NonFiniteError: the loss or a gradient is NaN or infinite.
    """
    held_out = held_out or []
    arguments = dict(locals())
    config = {name: configuration(value) for name, value in arguments.items() if name not in ("overwrite", "resume")}
    all_held_out = [*held_out, *([progress.held_out()] if progress else [])]
    _silence_libraries()
    _check_settings(model, stage, data, training, all_held_out, progress)
    template = None if chat_template is None else read_template(chat_template)
    if chat_template is not None and template is not None:
        check_template(template, chat_template)
    folder = RunFolder(run_dir, overwrite, resume)

    examples = _load_examples(data, all_held_out)
    policy, tokenizer = _load_policy(model, template)
    ranks = {"ranks": world_size()}  # with which the number of examples in a step grows
    facts = {"stage": type(stage).__name__, "model": _describe_model(model), "seed": seed, **ranks}
    fingerprint = require_same_everywhere("data", examples)
    data_facts = {"examples": len(examples), "fingerprint": fingerprint}
    folder.require_same(config, facts, fingerprint)
    if folder.has_ended:
        return folder.model

    # Pairs and answers to dev problems are sampled on the device that TRL will train on.
    policy.to(stage.config(training, folder.checkpoints, seed, max_length=1, messages=False).device)
    # Whatever the data may be refused for comes before anything of an earlier run is replaced.
    prepared = stage.prepare(examples, policy, tokenizer, seed)
    if progress:
        progress.require_readable(policy, tokenizer)
    folder.begin(config, {**facts, "data": data_facts})
    _measure_before(folder, progress, policy, tokenizer)
    trainer = _train(folder, model, stage, training, prepared, policy, tokenizer, seed)
    used = {"data": {**data_facts, "used": len(prepared.examples)}, "dropped": prepared.dropped}
    folder.write({**used, "results": _training_results(trainer, stage)})
    _measure_after(folder, progress, policy, tokenizer, model)
    output = folder.save_model(trainer, type(stage).__name__)
    folder.write({"ended": now()})
    return output


def _silence_libraries() -> None:
    """Hide what the user cannot change: deprecations inside TRL and transformers, progress bars of loading weights."""
    warnings.simplefilter("ignore", FutureWarning)
    transformers.utils.logging.disable_progress_bar()


def _check_settings(
    model: ModelSpec,
    stage: Stage,
    data: Examples,
    training: Training,
    held_out: Sequence[HeldOut],
    progress: DevProgress | None,
) -> None:
    """Refuse settings that cannot work, before any model or data are loaded."""
    model.check("model")
    stage.check(training)
    if global_rank() and world_size() == 1:
        raise ConfigError(
            f"training: this process is rank {global_rank()} of a launcher whose ranks post-training does not find; "
            "start it with torchrun or accelerate launch"
        )
    require_moving_weights(model, training)
    if stage.needs_start and model.path is None:
        raise ConfigError(
            "model.path: got none; this stage loads the starting model again as its reference, so it cannot start from "
            "a fresh model; give a hub id or directory"
        )
    data.check()
    for source in held_out:
        source.check()
    if progress:
        progress.check()


def _load_examples(data: Examples, held_out: Sequence[HeldOut]) -> Dataset:
    """The examples, none of which is held out."""
    examples = data.load()
    check_held_out(examples, held_out)
    return examples


def _load_policy(model: ModelSpec, template: str | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model to train and its tokenizer, with ``template`` as its chat template if there is one."""
    tokenizer, policy = model.load_tokenizer(), model.load("model")
    if template is None and tokenizer.chat_template:
        check_template(tokenizer.chat_template, f"that of {model.tokenizer or model.path}")
    tokenizer.chat_template = template or tokenizer.chat_template
    return policy, tokenizer


def _describe_model(model: ModelSpec) -> dict[str, str | None]:
    """What the record says of the starting model; a resumed run must start from the same one."""
    return {"path": model.path or "a fresh model", "revision": model.revision, "fingerprint": model.fingerprint()}


def _measure_before(
    folder: RunFolder, progress: DevProgress | None, policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Record pass@k of the starting model, unless the first part of a resumed run did."""
    if progress and not folder.has("before"):
        folder.report("before", progress.samples, *progress.measure(policy, tokenizer))


def _train(
    folder: RunFolder,
    model: ModelSpec,
    stage: Stage,
    training: Training,
    prepared: Prepared,
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
) -> Trainer:
    """Train ``policy`` in place from the folder's newest checkpoint, if any, and log into the folder."""
    tensorboard = TensorBoardCallback()
    tensorboard.logging_dir = str(folder.path)
    return train(
        stage,
        training,
        prepared,
        policy,
        tokenizer,
        folder.checkpoints,
        seed,
        callbacks=[RunLog(folder), tensorboard],
        checkpoint=folder.checkpoint,
        start={"revision": model.revision, "trust_remote_code": model.trust_remote_code},
    )


def _training_results(trainer: Trainer, stage: Stage) -> dict[str, Any]:
    """Optimizer steps, the last line of the log, and the stage's own figures."""
    losses = [line for line in trainer.state.log_history if "loss" in line]
    return {"steps": trainer.state.global_step, **(losses[-1] if losses else {}), **stage.results()}


def _measure_after(
    folder: RunFolder,
    progress: DevProgress | None,
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    model: ModelSpec,
) -> None:
    """Record pass@k of the trained model, and its KL divergence from the starting model where that can be loaded."""
    if not progress:
        return
    kl = progress.kl_to_start(policy, model.load("model"), tokenizer) if progress.kl and model.path else {}
    metrics, solved = progress.measure(policy, tokenizer)
    folder.report("after", progress.samples, {**metrics, **kl}, solved)
