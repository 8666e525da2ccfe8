"""A policy as a Hugging Face directory: safetensors, tokenizer, and a model card that says how it was made."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from remit_lit.errors import ConfigError, DataError
from remit_lit.files import near_path, put_in_place, replaced
from remit_lit.models.card import model_card
from remit_lit.models.push import check_push, push
from remit_lit.models.shards import read_zero_weights
from remit_lit.models.spec import ModelSpec
from remit_lit.runs.folder import CHECKPOINTS, MODEL, POLICY
from remit_lit.runs.resume import find_checkpoint
from remit_lit.runs.weights import ENGINE, POLICY_PREFIX, WEIGHTS, read_weights


def write_model(state: dict[str, Tensor], output: str | Path, run: str | Path) -> Path:
    """Write ``output`` as a whole: weights, tokenizer and model card; an earlier one is replaced.

    Args:
        state: weights of the policy by their names in the model.
        output: directory to write.
        run: the run folder that has the policy's config and tokenizer, and the record that the card quotes.

    Raises:
        RuntimeError: ``state`` is not of the run's policy.
    """
    output, policy = Path(output), Path(run, POLICY)
    dtype = next(iter(state.values())).dtype if state else torch.float32
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(policy), dtype=dtype)
    model.load_state_dict(state)
    with replaced(output) as aside:
        model.save_pretrained(aside)
        AutoTokenizer.from_pretrained(policy).save_pretrained(aside)
        (aside / "README.md").write_text(model_card(Path(run)))
        let_others_read(aside)
    return output


def put_model_in_place(aside: Path, output: Path) -> None:
    """Rename a model's directory that was written aside; an earlier one is replaced."""
    let_others_read(aside)
    put_in_place(aside, output)


def let_others_read(model: Path) -> None:
    """Give a model's directory and its files the usual permissions."""
    model.chmod(0o755)
    for file in model.iterdir():  # safetensors are written for the owner's eyes only
        file.chmod(0o644)


def export(
    run: str, output: str, checkpoint: str | None = None, push_to_hub: str | None = None, private: bool = True
) -> Path:
    """Write a Hugging Face directory from a run's checkpoint; of a ZeRO checkpoint, its float32 masters.

    Args:
        run: folder of the run, or one of its checkpoints.
        output: directory to write.
        checkpoint: a checkpoint directory; null is that given as run, or the run's newest undamaged one.
        push_to_hub: a repository of Hugging Face's hub, owner/name, to upload the directory to as well; it is made if
            need be. Needs a token that may write (`hf auth login`, or HF_TOKEN).
        private: whether a repository that is made is private.

    Returns:
        The directory, which ``AutoModelForCausalLM.from_pretrained`` loads.

    Raises:
        ConfigError: ``run`` is not a run folder, ``output`` exists, there is no checkpoint, or nothing could be pushed
            to that repository; and where the hub refused it, after ``output`` was written.
        DataError: the checkpoint is damaged, or does not hold this policy's parameters.
    """
    if push_to_hub is not None:
        check_push(push_to_hub)
    if checkpoint is None and (its_run := _run_of(run)) is not None:
        run, checkpoint = str(its_run), run
    if not Path(run).exists():
        raise ConfigError(f"run: {run} does not exist; {near_path(run)}give the run_dir of a fit")
    if not Path(run, POLICY).is_dir():
        raise ConfigError(f"run: {run} is not a run folder (it has no {POLICY}/); give the run_dir of a fit")
    if Path(output).exists():
        raise ConfigError(f"output: {output} exists; give another directory")
    path = find_checkpoint(checkpoint or "last", run, "checkpoint")
    if path is None:
        raise ConfigError(f"checkpoint: {run} has none yet; give a run that wrote one (checkpoint.every_n_train_steps)")
    state = read_zero_weights(path) if (path / ENGINE).is_dir() else read_weights(path / WEIGHTS)
    weights = {
        name.removeprefix(POLICY_PREFIX): value for name, value in state.items() if name.startswith(POLICY_PREFIX)
    }
    try:
        written = write_model(weights, output, run)
    except RuntimeError as error:
        raise DataError(f"checkpoint: {path} is not of the policy in {run} ({error})") from error
    if push_to_hub is not None:
        push(written, push_to_hub, private)
    return written


def _run_of(path: str | Path) -> Path | None:
    """The run that a path is a checkpoint of; None where it is none."""
    folder = Path(path).absolute().parent
    is_checkpoint = Path(path).is_dir() and folder.name == CHECKPOINTS and (folder.parent / POLICY).is_dir()
    return folder.parent if is_checkpoint else None


@contextmanager
def as_model(spec: ModelSpec) -> Iterator[ModelSpec]:
    """``spec`` with a path that transformers can load, for as long as the context lasts.

    A run folder stands for its ``model/``. A checkpoint is exported to the temporary directory (TMPDIR), which needs
    room for the weights.

    Raises:
        ConfigError: a fresh model, no model at the path, or a run without ``model/``.
        DataError: the checkpoint is damaged.
    """
    if spec.path is None:
        raise ConfigError("model.path: a fresh model has learned nothing yet; give a directory, hub id or run folder")
    path = Path(spec.path)
    if _run_of(path) is not None:
        with tempfile.TemporaryDirectory(prefix="remit_lit-") as directory:
            yield replace(spec, path=str(export(spec.path, f"{directory}/model")))
        return
    if (path / POLICY).is_dir():
        if not (path / MODEL / "config.json").exists():
            raise ConfigError(
                f"model.path: the run {path} has no model/ yet; give one of its checkpoints, e.g. "
                f"{path}/checkpoints/last.ckpt"
            )
        spec = replace(spec, path=str(path / MODEL))
    spec.check("model")
    yield spec
