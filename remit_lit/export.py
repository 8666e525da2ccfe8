"""A policy as a Hugging Face directory: safetensors, tokenizer, and a model card that says how it was made."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from remit_lit.checkpoints.files import ENGINE, WEIGHTS, read_weights
from remit_lit.errors import ConfigError, DataError
from remit_lit.resume import find_checkpoint
from remit_lit.run_folder import CONFIG, POLICY, RECORD
from remit_lit.shards import read_zero_weights

_PREFIX = "policy."


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
    output.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    model.save_pretrained(aside)
    AutoTokenizer.from_pretrained(policy).save_pretrained(aside)
    (aside / "README.md").write_text(model_card(Path(run)))
    put_in_place(aside, output)
    return output


def put_in_place(aside: Path, output: Path) -> None:
    """Rename a model's directory that was written aside; an earlier one is replaced."""
    aside.chmod(0o755)
    for file in aside.iterdir():  # safetensors are written for the owner's eyes only
        file.chmod(0o644)
    if output.exists():
        shutil.rmtree(output)
    aside.rename(output)


def model_card(run: Path) -> str:
    """Markdown that says method, data and config of a run."""
    record: dict[str, Any] = json.loads((run / RECORD).read_text())
    config = (run / CONFIG).read_text() if (run / CONFIG).exists() else "(not run from the command line)"
    sources = "\n".join(
        f"- {name}: {count['tokens']:,} tokens in {count['documents']:,} documents"
        for name, count in record["data"]["counts"]["train"]["sources"].items()
    )
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        "---\nlibrary_name: transformers\ntags: [mid-training, remit_lit]\n---\n\n"
        f"# Mid-trained with {record['weighting']}\n\n"
        f"Mid-training of {record['steps']:,} steps of {record['tokens_per_step']:,} tokens with remit_lit, "
        f"token weighting `{record['weighting']}` {json.dumps(record['weighting_settings'])}.\n\n"
        f"- policy: `{record['policy']}`\n- reference: `{record['reference']}`\n\n"
        f"## Results at the end of the run\n\n{_results(record)}\n\n"
        f"## Data\n\nRows `{record['data']['rows']['train']}`, made from\n\n{sources}\n\n"
        f"## Versions\n\n{versions}; git {record['git_revision']}\n\n"
        f"## Config\n\n```yaml\n{config}```\n"
    )


def _results(record: dict[str, Any]) -> str:
    figures = record.get("results", {})
    return "\n".join(f"- {name}: {value:.4f}" for name, value in figures.items()) or "None were measured."


def export(run: str, output: str, checkpoint: str | None = None) -> Path:
    """Write a Hugging Face directory from a run's checkpoint; of a ZeRO checkpoint, its float32 masters.

    Args:
        run: folder of the run.
        output: directory to write.
        checkpoint: a checkpoint directory; null is the run's newest undamaged one.

    Returns:
        The directory, which ``AutoModelForCausalLM.from_pretrained`` loads.

    Raises:
        ConfigError: ``run`` is no run folder, ``output`` exists, or there is no checkpoint.
        DataError: the checkpoint is damaged, or does not hold this policy's parameters.
    """
    if not Path(run, POLICY).is_dir():
        raise ConfigError(f"run: {run} is no run folder (it has no {POLICY}/); give the run_dir of a fit")
    if Path(output).exists():
        raise ConfigError(f"output: {output} exists; give another directory")
    path = find_checkpoint(checkpoint or "last", run)
    if path is None:
        raise ConfigError(f"checkpoint: {run} has none yet; give a run that wrote one (checkpoint.every_n_train_steps)")
    state = read_zero_weights(path) if (path / ENGINE).is_dir() else read_weights(path / WEIGHTS)
    weights = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
    try:
        return write_model(weights, output, run)
    except RuntimeError as error:
        raise DataError(f"checkpoint: {path} is not of the policy in {run} ({error})") from error
