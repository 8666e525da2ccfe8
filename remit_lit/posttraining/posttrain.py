"""``posttrain``: one stage of post-training, from a Hugging Face directory to another."""

import warnings
from pathlib import Path
from typing import Any

import transformers
from transformers.integrations.integration_utils import TensorBoardCallback

from remit_lit.errors import ConfigError
from remit_lit.jobs.fingerprint import fingerprint as file_fingerprint
from remit_lit.models.spec import ModelSpec
from remit_lit.posttraining.dev_problems import DevProgress
from remit_lit.posttraining.dpo import DPO
from remit_lit.posttraining.examples import Examples, fingerprint
from remit_lit.posttraining.held_out import HeldOut, check_held_out
from remit_lit.posttraining.rlvr import RLVR
from remit_lit.posttraining.run_folder import RunFolder, RunLog, resolved
from remit_lit.posttraining.sft import SFT
from remit_lit.posttraining.stage import Stage, Training, train
from remit_lit.runs.provenance import now

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
    """Train a model by SFT, DPO or RLVR; the folder gets config.yaml, run.json, metrics.csv, checkpoints and model.

    Killed at any moment and started again with ``resume``, it goes on from the newest checkpoint; a run that has ended
    stays as it is.

    Args:
        model: where to start.
        stage: SFT, DPO or RLVR.
        data: what to train on.
        training: how to optimise.
        run_dir: folder of the run.
        held_out: problems that must not be in the data; those of ``progress`` are always among them.
        progress: measure pass@k on dev problems before and after, and the KL to the start; null measures nothing.
        chat_template: a Jinja file that takes the place of the tokenizer's chat template.
        seed: of the order of the examples and of the samples.
        overwrite: replace an earlier run in run_dir.
        resume: go on with an earlier run in run_dir.

    Returns:
        The directory of the model.

    Raises:
        ConfigError: a setting cannot work, or the folder holds a run of other settings.
        DataError: the data are malformed, nothing is left of them, or an example is held out.
        NonFiniteError: the loss or a gradient is NaN or infinite.
    """
    config = {
        name: resolved(value)
        for name, value in (
            ("model", model),
            ("stage", stage),
            ("data", data),
            ("training", training),
            ("run_dir", run_dir),
            ("held_out", held_out or []),
            ("progress", progress),
            ("chat_template", chat_template),
            ("seed", seed),
        )
    }
    _be_quiet()
    sources: list[HeldOut] = [*(held_out or []), *([progress.held_out()] if progress else [])]
    model.check("model")
    stage.check(training)
    if stage.needs_start and model.path is None:
        raise ConfigError("model.path: got a fresh model, which this stage cannot load again as its reference")
    data.check()
    for source in sources:
        source.check()
    if progress:
        progress.check()
    template = _template(chat_template)
    folder = RunFolder(run_dir, overwrite, resume)

    examples = data.load()
    check_held_out(examples, sources)
    tokenizer, policy = model.load_tokenizer(), model.load("model")
    tokenizer.chat_template = template or tokenizer.chat_template
    facts: dict[str, Any] = {
        "stage": type(stage).__name__,
        "model": {
            "path": model.path or "a fresh model",
            "revision": model.revision,
            "fingerprint": file_fingerprint(model.path or "") or getattr(policy.config, "_commit_hash", None),
        },
        "seed": seed,
    }
    data_fingerprint = fingerprint(examples)
    found = {"examples": len(examples), "fingerprint": data_fingerprint}
    folder.require_same(config, facts, data_fingerprint)
    if folder.has_ended:
        return folder.model

    # The device that TRL will train on: pairs and dev problems are sampled there before.
    policy.to(stage.config(training, folder.checkpoints, seed, window=1, messages=False).device)
    # All that the data may be refused for, before anything of an earlier run is replaced.
    prepared = stage.prepare(examples, policy, tokenizer, seed)
    if progress:
        progress.require_readable(policy, tokenizer)
    folder.begin(config, {**facts, "data": found})
    if progress and "before" not in folder.record:
        folder.report("before", progress, *progress.measure(policy, tokenizer))
    trainer = train(
        stage,
        training,
        prepared,
        policy,
        tokenizer,
        folder.checkpoints,
        seed,
        callbacks=[RunLog(folder), _tensorboard(folder.path)],
        checkpoint=folder.checkpoint,
        start={"revision": model.revision, "trust_remote_code": model.trust_remote_code},
    )
    history = [line for line in trainer.state.log_history if "loss" in line]
    results = {"steps": trainer.state.global_step, **(history[-1] if history else {}), **stage.results()}
    folder.write({"data": {**found, "used": len(prepared.rows)}, "dropped": prepared.dropped, "results": results})
    if progress:
        moved = progress.moved(policy, model.load("model"), tokenizer) if progress.kl and model.path else {}
        figures, solved = progress.measure(policy, tokenizer)
        folder.report("after", progress, {**figures, **moved}, solved)
    output = folder.save_model(trainer, type(stage).__name__)
    folder.write({"ended": now()})
    return output


def _template(path: str | None) -> str | None:
    if path is None:
        return None
    if not Path(path).is_file():
        raise ConfigError(f"chat_template: no file {path!r}; give a Jinja template file")
    return Path(path).read_text()


def _tensorboard(directory: Path) -> TensorBoardCallback:
    callback = TensorBoardCallback()
    callback.logging_dir = str(directory)
    return callback


def _be_quiet() -> None:
    """Leave out what is not the user's doing: old names inside TRL and transformers, and bars of loading weights."""
    warnings.simplefilter("ignore", FutureWarning)
    transformers.utils.logging.disable_progress_bar()
