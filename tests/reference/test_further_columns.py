"""Columns that `score` writes beside the NLLs, in the same pass."""

import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from remit_lit.data.columns import (
    IDS,
    LOG_PROBABILITIES,
    column_directory,
    of_distributions,
    read_facts,
    write_shard,
)
from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec
from remit_lit.reference import passes
from remit_lit.reference.reference import LiveReference
from remit_lit.reference.score import score
from remit_lit.reference.subsets import select
from tests.columns import shards_of, slow_entropy, stored

NAMES = ("nll", "entropy", of_distributions("top"))
TOGETHER: dict[str, Any] = {"entropy_column": "entropy", "top_k": 3, "top_k_column": "top"}


@pytest.mark.parametrize("document_attention", [True, False])
def test_entropies_are_those_of_whole_distributions(
    document_attention: bool, tiny_rows_split: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_rows_split, tmp_path / "rows")
    spec, options = ModelSpec(str(tiny_reference_dir)), {"entropy_column": "entropy", "batch_tokens": 150}
    score(str(tmp_path / "rows"), spec, "nll", "validation", "float32", document_attention, **options)  # type: ignore[arg-type]
    found = stored(tmp_path / "rows", "entropy", "validation")
    model = AutoModelForCausalLM.from_pretrained(tiny_reference_dir)
    packed = datasets.load_from_disk(str(tmp_path / "rows" / "validation"))
    expected = np.array([[v or 0.0 for v in slow_entropy(model, row, document_attention)] for row in packed])
    assert np.abs(found - expected).max() < 1e-5 and expected.max() > 1


def test_columns_of_one_pass_hold_what_each_holds_that_is_written_alone(
    rows: Path, tiny_reference_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, passed = ModelSpec(str(tiny_reference_dir)), []
    hidden_states = LiveReference._hidden_states

    def counting(self: LiveReference, batch: Any) -> Any:
        passed.append(batch.input_ids.numel())
        return hidden_states(self, batch)

    monkeypatch.setattr(LiveReference, "_hidden_states", counting)
    assert score(str(rows), spec, "nll", **TOGETHER) == column_directory(rows, "train", "nll")
    assert sum(passed) == stored(rows, "nll").size
    score(str(rows), spec, "alone")
    score(str(rows), spec, "alone", top_k=3)
    assert (stored(rows, "nll") == stored(rows, "alone")).all()
    both, alone = (stored(rows, of_distributions(name)) for name in ("top", "alone"))
    assert (both[IDS] == alone[IDS]).all() and (both[LOG_PROBABILITIES] == alone[LOG_PROBABILITIES]).all()
    facts = [read_facts(column_directory(rows, "train", name)) for name in NAMES]
    assert len({each.model for each in facts}) == 1
    assert [(each.entropy, each.top_k) for each in facts] == [(False, None), (True, None), (False, 3)]


def test_a_pass_that_is_cut_off_goes_on_with_the_columns_that_lack_a_shard(
    rows: Path, tiny_reference_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut between the columns of a shard: NLLs of the third are there, and its entropies are not."""
    spec = ModelSpec(str(tiny_reference_dir))
    score(str(rows), spec, "whole", entropy_column="whole_entropy", rows_per_shard=8)
    written: list[tuple[str, int]] = []

    def cut(directory: Path, index: int, values: np.ndarray) -> None:
        if (directory.name, index) == ("entropy", 2):
            raise KeyboardInterrupt
        written.append((directory.name, index))
        write_shard(directory, index, values)

    with monkeypatch.context() as patch:
        patch.setattr(passes, "write_shard", cut)
        with pytest.raises(KeyboardInterrupt):
            score(str(rows), spec, "nll", entropy_column="entropy", rows_per_shard=8)
    assert written[-1] == ("nll", 2)
    before = {path: path.stat().st_mtime_ns for path in (rows / "columns").glob("*/*/*.npy")}
    score(str(rows), spec, "nll", entropy_column="entropy", rows_per_shard=8)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert shards_of(rows, "nll") == shards_of(rows, "whole")
    assert shards_of(rows, "entropy") == shards_of(rows, "whole_entropy")


def test_entropies_are_added_to_nlls_that_were_there(rows: Path, tiny_reference_dir: Path) -> None:
    spec = ModelSpec(str(tiny_reference_dir))
    directory = score(str(rows), spec, "nll")
    before = {path: path.stat().st_mtime_ns for path in directory.glob("*.npy")}
    score(str(rows), spec, "nll", entropy_column="entropy")
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert stored(rows, "entropy").max() > 1


def test_verifying_reports_each_column(
    rows: Path, tiny_reference_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll", verify=2, **TOGETHER)
    lines = capsys.readouterr().out.splitlines()
    for name in ("nll", "entropy", "top"):
        assert [line.split(": ")[1] for line in lines if line.startswith(f"column {name}: verified")] == [
            "verified 2 rows"
        ]


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"entropy_column": "nll"}, r"^entropy_column: got 'nll', the name of the column of NLLs"),
        ({"top_k_column": "top"}, r"^top_k_column: got 'top' without top_k"),
    ],
)
def test_names_that_do_not_go_together_are_refused(
    options: dict[str, Any], message: str, rows: Path, tiny_reference_dir: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll", **options)
    assert not (rows / "columns").exists()


def test_another_model_into_the_column_of_entropies_is_refused(
    rows: Path, tiny_reference_dir: Path, tiny_policy_dir: Path
) -> None:
    score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll", entropy_column="entropy")
    with pytest.raises(ConfigError, match=r"^entropy_column: .*entropy holds other scores"):
        score(str(rows), ModelSpec(str(tiny_policy_dir)), "other", entropy_column="entropy")


def test_rows_are_not_chosen_by_entropies(rows: Path, tiny_reference_dir: Path) -> None:
    score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll", entropy_column="entropy")
    with pytest.raises(ConfigError, match=r"^model\.reference\.column: 'entropy' holds entropies, not NLLs"):
        select(str(rows), "nll", "entropy", "half")
