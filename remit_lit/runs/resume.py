"""Going on from a checkpoint: which one, and whether the config still means the same run."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from remit_lit.errors import ConfigError, DataError
from remit_lit.files import flatten
from remit_lit.runs.checkpoint import newest, verify
from remit_lit.runs.folder import CHECKPOINTS, CONFIG, MODEL, RECORD

# Fields that decide where and how a run proceeds, not what it computes.
_FREE = (
    "run_dir",
    "overwrite",
    "ckpt_path",
    "weights_only",
    "allow_change",
    "dry_run",
    "report",
    "checkpoint",
    "throughput",
    "progress_lines",
    "watchdog",
    "data.validation_batch_size",
    "trainer",
)
_TRAINER = ("accumulate_grad_batches", "precision", "gradient_clip_val", "gradient_clip_algorithm", "max_steps")
_RANKS = ("trainer.devices", "trainer.num_nodes", "data.batch_size")


def find_checkpoint(given: str, run_dir: str | Path, field: str = "ckpt_path") -> Path | None:
    """The checkpoint to go on from, verified; None where ``last`` is asked for and there is none yet.

    Raises:
        ConfigError: there is no such checkpoint; names ``field``.
        DataError: it is damaged, or all are.
    """
    if given == "last":
        return newest(Path(run_dir, CHECKPOINTS))
    if not Path(given).exists():
        raise ConfigError(f"{field}: no checkpoint {given!r}; give a checkpoint directory, or last")
    verify(given)
    return Path(given).resolve()


def has_ended(run: Path) -> bool:
    """Whether a run reached its end and wrote its model."""
    try:
        record = json.loads((run / RECORD).read_text())
    except (OSError, ValueError):
        return False
    return "ended" in record and (run / MODEL).is_dir()


def require_same_meaning(run: Path, config: dict[str, Any], allowed: Iterable[str]) -> None:
    """Refuse a config under which the rest of the run would not be the rest of the same run.

    Args:
        run: folder that has the config of the first part.
        config: of the part to come, as nested dictionaries.
        allowed: dotted fields, or whole sections, that may differ.

    Raises:
        ConfigError: naming the fields that differ, and both values.
        DataError: the earlier config is damaged.
    """
    before = run / CONFIG
    if not before.is_file():
        return
    try:
        earlier: Any = OmegaConf.to_container(OmegaConf.load(before))
    except (YAMLError, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"ckpt_path: {before} is damaged ({str(error).splitlines()[0]}); put the run's config back"
        ) from error
    if not isinstance(earlier, dict) or not earlier:
        raise DataError(f"ckpt_path: {before} is damaged (it has no fields); put the run's config back")
    old, new = _meaning(earlier), _meaning(config)
    changed = [
        name
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name) and not any(f"{name}.".startswith(f"{field}.") for field in allowed)
    ]
    if changed:
        sides = "\n".join(f"  {name}: {old.get(name)!r} before, {new.get(name)!r} now" for name in changed)
        raise ConfigError(
            f"ckpt_path: the config describes another run than the one in {run}:\n{sides}\n"
            "Undo the change, allow it with --allow_change=FIELD, or start a new run from the exported weights"
        )


def _meaning(config: dict[str, Any]) -> dict[str, Any]:
    """Dotted fields that decide what is computed; of ranks and batch size only the product counts."""
    flat = dict(flatten(config))
    kept = {
        name: value
        for name, value in flat.items()
        if not any(f"{name}.".startswith(f"{field}.") for field in _FREE) and name not in _RANKS
    }
    trainer = {f"trainer.{name}": flat.get(f"trainer.{name}") for name in _TRAINER}
    sizes = [flat.get(name) for name in _RANKS]
    if all(str(size).isdigit() for size in sizes):
        devices, nodes, rows = (int(str(size)) for size in sizes)
        return {**kept, **trainer, "data.batch_size x ranks": devices * nodes * rows}
    return {**kept, **trainer, **dict(zip(_RANKS, sizes, strict=True))}
