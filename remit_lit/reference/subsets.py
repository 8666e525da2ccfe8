"""``select``: a strategy's choice of rows from two score columns, stored beside them as a named subset."""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from remit_lit.data.columns import column_directory, read_facts
from remit_lit.data.manifest import SPLITS, read_manifest
from remit_lit.data.rows import Collate, open_rows
from remit_lit.data.storage import exists, local_copy, located, names_in, require_local
from remit_lit.errors import ConfigError, DataError, did_you_mean, not_among
from remit_lit.files import full_disk_named, replaced
from remit_lit.reference.choice import choose
from remit_lit.reference.reference import CachedReference
from remit_lit.runs.lock import held
from remit_lit.weighting import MiniPLM, TokenWeighting

_ROWS_AT_A_TIME = 256


@dataclass(frozen=True)
class SubsetFacts:
    """What a subset was chosen from and how; a run refuses a subset that is not of its rows and its strategy.

    Attributes:
        rows: fingerprint of the rows.
        weighting: the strategy and its settings.
        columns: fingerprints of the models that scored, by column.
        num_rows: rows that it was chosen from.
        digest: hash of the chosen row numbers.
        sources: see :class:`remit_lit.reference.choice.Choice`.
        quantiles: the same.
    """

    rows: str
    weighting: dict[str, Any]
    columns: dict[str, str]
    num_rows: int
    digest: str
    sources: dict[str, dict[str, int]]
    quantiles: dict[str, dict[str, float]]


def select(
    rows: str,
    base: str,
    reference: str,
    name: str,
    weighting: TokenWeighting | None = None,
    split: Literal["train", "validation"] = "train",
    overwrite: bool = False,
) -> Path:
    """Choose rows by two score columns and write their numbers and a report beside the rows; ``fit`` reads them with
    ``data.subset``.

    Args:
        rows: directory of prepared rows.
        base: column of the model before mid-training, e.g. nll_base.
        reference: column of the RL-tuned model, e.g. nll_rl.
        name: of the subset, for ``data.subset``.
        weighting: the strategy that chooses; null is MiniPLM with its default keep.
        split: the rows to choose from.
        overwrite: replace an existing subset of that name.

    Returns:
        The directory of the subset.

    Raises:
        ConfigError: a column is missing or of other rows, the strategy chooses no rows, the subset exists, or another
            command writes it.
        DataError: a column is damaged.
        NonFiniteError: NaN or infinite scores; names the rows.
    """
    weighting = weighting or MiniPLM()
    if split not in SPLITS:
        raise ConfigError(f"split: {not_among(split, SPLITS)}")
    if not weighting.selects_rows:
        raise ConfigError(f"weighting: {type(weighting).__name__} chooses no rows; give MiniPLM")
    require_local("rows", rows, "choose on a disk and copy the subset to the storage, beside the columns")
    directory = _directory(rows, split, name)
    if directory.exists() and not overwrite:
        raise ConfigError(f"name: {directory} exists; give another name, or --overwrite=true")
    read_manifest(rows)  # refuses what holds no rows, before anything is written there
    made = [parent for parent in directory.parents if not parent.exists()]  # the innermost first
    try:
        with held("name", directory):
            return _select(rows, base, reference, weighting, split, directory)
    finally:
        with suppress(OSError):  # what was refused leaves no empty directories behind
            for parent in made:
                parent.rmdir()


def _select(rows: str, base: str, reference: str, weighting: TokenWeighting, split: str, directory: Path) -> Path:
    manifest = read_manifest(rows)
    document_attention = read_facts(column_directory(rows, split, base)).document_attention
    packed = open_rows(rows, split, [base, reference], document_attention)
    models = CachedReference(base), CachedReference(reference)
    for model in models:
        model.check_columns({name: column.facts for name, column in packed.columns.items()})
    for column in packed.columns.values():
        column.verify()
    choice = choose(
        weighting,
        *models,
        packed,
        manifest.sources[split],
        Collate(document_attention),
        _ROWS_AT_A_TIME,
        torch.device("cpu"),
    )
    assert choice is not None, "a strategy that selects rows chooses some"
    facts = SubsetFacts(
        rows=manifest.fingerprints[split],
        weighting=_settings(weighting),
        columns={column: loaded.facts.model for column, loaded in packed.columns.items()},
        num_rows=len(packed),
        digest=_digest(choice.rows),
        sources=choice.sources,
        quantiles=choice.quantiles,
    )
    then = "make room and run `select` again"
    with full_disk_named(f"name: cannot write {directory}", then), replaced(directory) as aside:
        np.save(aside / "rows.npy", choice.rows)
        (aside / "subset.json").write_text(json.dumps(asdict(facts), indent=2) + "\n")
    print("\n".join(choice.summary()))
    return directory


def read_subset(rows: str | Path, split: str, name: str, weighting: TokenWeighting) -> np.ndarray:
    """Row numbers of a subset, ascending, int64 [kept].

    Args:
        rows: directory of prepared rows.
        split: which rows.
        name: of the subset.
        weighting: the run's strategy; one that chooses rows must be the one that chose these.

    Raises:
        ConfigError: there is no such subset, or it was chosen from other rows or by another strategy.
        DataError: it is damaged.
    """
    directory, facts = _directory(rows, split, name), read_subset_facts(rows, split, name)
    try:
        chosen: np.ndarray = np.load(local_copy(directory / "rows.npy"))
    except (ConfigError, DataError):
        raise
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(directory, error) from error
    if _digest(chosen) != facts.digest:
        raise _damaged(directory, "its row numbers do not match their digest")
    expected: dict[str, Any] = {"rows": read_manifest(rows).fingerprints[split]}
    if weighting.selects_rows:
        expected["weighting"] = _settings(weighting)
    sides = [
        f"{field}: {getattr(facts, field)} in the subset, {want} in this run"
        for field, want in expected.items()
        if getattr(facts, field) != want
    ]
    if sides:
        raise ConfigError(f"data.subset: {name!r} does not belong to this run ({'; '.join(sides)}); run `select` again")
    return chosen


def read_subset_facts(rows: str | Path, split: str, name: str) -> SubsetFacts:
    """What a subset was chosen from and how.

    Raises:
        ConfigError: there is no such subset.
        DataError: it is damaged.
    """
    directory = _directory(rows, split, name)
    if not exists(directory):
        existing = sorted(names_in(directory.parent)) if exists(directory.parent) else []
        raise ConfigError(
            f"data.subset: no subset {name!r} (these rows have {existing or 'none'}); {did_you_mean(name, existing)}"
            "write it with `python -m remit_lit select`"
        )
    try:
        return SubsetFacts(**json.loads(local_copy(directory / "subset.json").read_text()))
    except (ConfigError, DataError):
        raise
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(directory, error) from error


def _damaged(directory: Path, how: object) -> DataError:
    return DataError(f"data.subset: {directory} is damaged ({how}); run `select` again")


def _directory(rows: str | Path, split: str, name: str) -> Path:
    return located(rows, "subsets", split, name)


def _settings(weighting: TokenWeighting) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(json.dumps(vars(weighting), default=str))
    return {"class": type(weighting).__name__, **settings}


def _digest(rows: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(rows, np.int64).tobytes(), digest_size=16).hexdigest()
