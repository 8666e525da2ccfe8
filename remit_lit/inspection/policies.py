"""The policies to show, from paths: models, checkpoints, and runs, which stand for all of theirs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from remit_lit.data.manifest import Manifest
from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec, label
from remit_lit.reference.reading import check_reads
from remit_lit.runs.checkpoint import all_checkpoints, step_of
from remit_lit.runs.folder import CHECKPOINTS, MODEL, POLICY, RECORD
from remit_lit.runs.resume import find_checkpoint


@dataclass(frozen=True)
class Policy:
    """One stop of the slider.

    Attributes:
        field: that named it, for messages.
        name: for people.
        spec: to load by :func:`remit_lit.models.export.as_model`.
        described: has its config and tokenizer, where ``spec`` is a checkpoint.
    """

    field: str
    name: str
    spec: ModelSpec
    described: ModelSpec


def find_policies(first: ModelSpec, others: Sequence[str], manifest: Manifest) -> list[Policy]:
    """The policies in order; nothing is loaded.

    Args:
        first: ``model.policy``, whose other settings hold for all.
        others: paths: hub ids, directories, checkpoints, or folders of runs.
        manifest: of the rows that they are to read.

    Raises:
        ConfigError: a path is none of these or comes twice, a run has no checkpoint, or a policy does not read the
            rows' tokens.
        DataError: a checkpoint is damaged.
    """
    if first.path is None:
        raise ConfigError("model.policy.path: got null; a fresh model has learned nothing yet, give one that has")
    found = [Policy("model.policy", label(first.path, first.revision), first, first)]
    for index, path in enumerate(others):
        found += _policies_at(f"policies.{index}", path, replace(first, config=None, revision=None))
    names = [policy.name for policy in found]
    for place, policy in enumerate(found):
        if policy.name in names[:place]:
            raise ConfigError(f"{policy.field}: {policy.name} is there already; name each policy once")
        check_reads(policy.field, policy.described, manifest)
    return found


def _policies_at(field: str, path: str, like: ModelSpec) -> list[Policy]:
    place = Path(path)
    if place.is_dir() and (place / POLICY).is_dir():
        return _of_run(field, place, like)
    if place.absolute().parent.name == CHECKPOINTS:
        checkpoint = find_checkpoint(path, "", field)
        assert checkpoint is not None, "only the name `last` finds none"
        return [_of_checkpoint(field, checkpoint, place.parent.parent, like)]
    spec = replace(like, path=path)
    spec.check(field)
    return [Policy(field, path, spec, spec)]


def _of_run(field: str, run: Path, like: ModelSpec) -> list[Policy]:
    checkpoints = all_checkpoints(run / CHECKPOINTS)
    found = [_of_checkpoint(field, checkpoint, run, like) for checkpoint in checkpoints]
    last = _last_step(run)
    if (run / MODEL / "config.json").exists() and last not in [step_of(checkpoint) for checkpoint in checkpoints]:
        spec = replace(like, path=str(run / MODEL))
        found.append(Policy(field, f"{run}, {MODEL if last is None else f'step {last}'}", spec, spec))
    if not found:
        raise ConfigError(
            f"{field}: the run {run} has neither checkpoints nor a {MODEL}/ yet; give it time, or another"
        )
    return found


def _of_checkpoint(field: str, checkpoint: Path, run: Path, like: ModelSpec) -> Policy:
    if not (run / POLICY).is_dir():
        raise ConfigError(f"{field}: {checkpoint} is in no run folder ({run} has no {POLICY}/); give one of a run's")
    name = f"{run}, step {step_of(checkpoint)}"
    return Policy(field, name, replace(like, path=str(checkpoint)), replace(like, path=str(run / POLICY)))


def _last_step(run: Path) -> int | None:
    """The step of a finished run's model; None where its record does not say."""
    try:
        step: int | None = json.loads((run / RECORD).read_text()).get("ended_at_step")
    except (OSError, ValueError):
        return None
    return step
