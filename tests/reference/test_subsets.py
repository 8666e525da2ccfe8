"""`select`: what it keeps and reports against a slow computation, and runs on what it kept."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from remit_lit.data.columns import column_directory, shard_path, write_shard
from remit_lit.errors import ConfigError, DataError, NonFiniteError
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import CachedReference
from remit_lit.reference.score import score
from remit_lit.reference.subsets import read_subset, select
from remit_lit.weighting import MiniPLM, NextTokenPrediction, ReMiT
from tests.columns import slow_nll
from tests.helpers import build, fit
from tests.weighting import slow


@pytest.fixture
def scored(tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path) -> Path:
    """Rows that cut documents, with the columns nll_base and nll_rl."""
    rows = Path(shutil.copytree(tiny_rows_split, tmp_path / "rows"))
    for column, model in (("nll_base", tiny_policy_dir), ("nll_rl", tiny_reference_dir)):
        score(str(rows), ModelSpec(str(model)), column, dtype="float32")
    return rows


def choose(rows: Path, name: str = "half", **options: Any) -> Path:
    return select(str(rows), "nll_base", "nll_rl", name, **options)


def chosen_rows(rows: Path, name: str = "half", weighting: Any = None) -> list[int]:
    found: list[int] = read_subset(rows, "train", name, weighting or NextTokenPrediction()).tolist()
    return found


def slow_means(rows: Path, model: Path) -> list[float]:
    """Mean NLL of the targets of each row by whole logits."""
    loaded = AutoModelForCausalLM.from_pretrained(model)
    each = [[v for v in slow_nll(loaded, row, True) if v is not None] for row in packed(rows)]
    return [sum(row) / len(row) for row in each]


def packed(rows: Path) -> Any:
    return datasets.load_from_disk(str(rows / "train"))


@pytest.mark.parametrize("keep", [0.5, 0.1, 1.0])
def test_the_rows_of_the_largest_difference_are_kept(
    keep: float, scored: Path, tiny_policy_dir: Path, tiny_reference_dir: Path
) -> None:
    choose(scored, weighting=MiniPLM(keep))
    base, reference = (slow_means(scored, model) for model in (tiny_policy_dir, tiny_reference_dir))
    assert chosen_rows(scored) == slow.miniplm(base, reference, keep)


def test_ties_go_to_the_earlier_row(scored: Path) -> None:
    for column in ("nll_base", "nll_rl"):
        directory = column_directory(scored, "train", column)
        values = np.load(shard_path(directory, 0))
        write_shard(directory, 0, np.full_like(values, 2.0))
    choose(scored)
    count = len(packed(scored))
    assert chosen_rows(scored) == list(range(int(count / 2 + 0.5)))


def test_the_report_counts_the_tokens_of_each_source(scored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = choose(scored)
    facts = json.loads((directory / "subset.json").read_text())
    names = json.loads((scored / "manifest.json").read_text())["sources"]["train"]
    kept = set(chosen_rows(scored))
    expected = {name: {"all": 0, "kept": 0} for name in names}
    for index, row in enumerate(packed(scored)):
        for length, source in zip(row["document_lengths"], row["document_sources"], strict=True):
            expected[names[source]]["all"] += length - 1  # a document's last token predicts nothing
            expected[names[source]]["kept"] += (length - 1) * (index in kept)
    assert facts["sources"] == expected
    printed = capsys.readouterr().out
    assert f"{len(kept):,} of {len(packed(scored)):,} rows kept" in printed
    for name, tokens in expected.items():
        share = tokens["kept"] / tokens["all"]
        assert f"{name}: {tokens['kept']:,} of {tokens['all']:,} tokens kept ({share:.1%})" in printed


def test_the_report_has_the_quantiles_of_the_difference(
    scored: Path, tiny_policy_dir: Path, tiny_reference_dir: Path
) -> None:
    facts = json.loads((choose(scored) / "subset.json").read_text())
    base, reference = (np.array(slow_means(scored, model)) for model in (tiny_policy_dir, tiny_reference_dir))
    for which, rows in (("all", slice(None)), ("kept", chosen_rows(scored))):
        found = facts["quantiles"][which]
        difference = np.sort((base - reference)[rows])
        assert found["0"] == pytest.approx(difference[0], abs=1e-5)
        assert found["1"] == pytest.approx(difference[-1], abs=1e-5)
        assert found["0.5"] == pytest.approx(np.median(difference), abs=1e-5)
        assert list(found) == ["0", "0.05", "0.25", "0.5", "0.75", "0.95", "1"]


def test_training_on_a_subset_is_training_on_the_rows_that_a_run_chooses(
    scored: Path, tiny_policy_dir: Path, tmp_path: Path
) -> None:
    choose(scored, weighting=MiniPLM(0.2))
    options: dict[str, Any] = {"weighting": MiniPLM(0.2), "steps": 7, "batch_size": 8, "repeat_chosen": True}
    options |= {"reference": CachedReference("nll_rl"), "base": CachedReference("nll_base")}
    within = fit(scored, tiny_policy_dir, tmp_path / "within", **options)
    shutil.rmtree(scored / "columns")  # the choice is made; no scores are read any more
    begun, data = build(scored, tiny_policy_dir, tmp_path / "subset", **options)
    data.subset = "half"
    begun.trainer.fit(begun.module, datamodule=data)
    assert begun.recorder.rows == within.recorder.rows
    assert begun.losses == within.losses


def test_a_subset_serves_other_strategies_too(scored: Path, tiny_policy_dir: Path, tmp_path: Path) -> None:
    choose(scored, weighting=MiniPLM(0.2))
    begun, data = build(
        scored, tiny_policy_dir, tmp_path, weighting=ReMiT(), reference=CachedReference("nll_rl"), steps=14
    )
    data.subset = "half"
    begun.trainer.fit(begun.module, datamodule=data)
    assert sorted(row for rows in begun.recorder.rows for row in rows) == chosen_rows(scored)


@pytest.mark.fault("a disk that is full during `select`", "it is named, and no subset is left")
def test_a_full_disk_is_named(scored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", refuse)
    with pytest.raises(DataError, match=r"name: cannot write .*half: no space left .*run `select` again"):
        choose(scored, weighting=MiniPLM(0.2))
    monkeypatch.undo()
    choose(scored, weighting=MiniPLM(0.2))


def test_a_subset_is_replaced_only_where_that_is_asked(scored: Path) -> None:
    choose(scored, weighting=MiniPLM(0.2))
    before = chosen_rows(scored)
    with pytest.raises(ConfigError, match=r"name: .*half exists; give another name, or --overwrite=true"):
        choose(scored, weighting=MiniPLM(0.4))
    assert chosen_rows(scored) == before
    choose(scored, weighting=MiniPLM(0.4), overwrite=True)
    assert len(chosen_rows(scored)) == pytest.approx(2 * len(before), abs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weighting": ReMiT()}, "weighting: ReMiT chooses no rows; give MiniPLM"),
        ({"split": "test"}, "split: got 'test'"),
        ({"base": "nll_none"}, r"no score column 'nll_none' \(these rows have \['nll_base', 'nll_rl'\]\)"),
    ],
)
def test_what_cannot_be_selected_is_refused(options: dict[str, Any], message: str, scored: Path) -> None:
    given = {"base": "nll_base", "reference": "nll_rl", "name": "half", **options}
    with pytest.raises(ConfigError, match=message):
        select(str(scored), **given)
    assert not (scored / "subsets").exists()


def test_columns_of_other_attention_are_refused(scored: Path, tiny_reference_dir: Path) -> None:
    score(str(scored), ModelSpec(str(tiny_reference_dir)), "nll_joined", document_attention=False)
    with pytest.raises(ConfigError, match="document_attention: False in the column, True in this run"):
        select(str(scored), "nll_base", "nll_joined", "half")


def test_a_damaged_column_is_refused(scored: Path) -> None:
    path = shard_path(column_directory(scored, "train", "nll_base"), 0)
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"'nll_base'.*its checksum differs"):
        choose(scored)


def test_nan_scores_are_refused_naming_the_row(scored: Path) -> None:
    directory = column_directory(scored, "train", "nll_rl")
    values = np.load(shard_path(directory, 0))
    values[13, 0] = np.nan
    write_shard(directory, 0, values)
    with pytest.raises(NonFiniteError, match=r"'nll_rl'.*row\(s\) \[13\]"):
        choose(scored)


def test_a_subset_that_is_not_there_is_refused_before_any_weights_are_loaded(
    scored: Path, tiny_policy_dir: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("no_weights")
    begun, data = build(scored, tiny_policy_dir, tmp_path)
    data.subset = "half"
    with pytest.raises(ConfigError, match=r"data\.subset: no subset 'half' \(these rows have none\).*select"):
        begun.trainer.fit(begun.module, datamodule=data)
    choose(scored, "other")
    with pytest.raises(ConfigError, match=r"no subset 'half' \(these rows have \['other'\]\)"):
        begun.trainer.fit(begun.module, datamodule=data)


def test_a_subset_of_other_settings_is_refused_naming_both(scored: Path) -> None:
    choose(scored, weighting=MiniPLM(0.2))
    with pytest.raises(ConfigError, match=r"weighting: .*0\.2.* in the subset, .*0\.5.* in this run"):
        chosen_rows(scored, weighting=MiniPLM(0.5))


def test_a_subset_of_other_rows_is_refused_naming_both(scored: Path, tiny_rows: Path, tmp_path: Path) -> None:
    choose(scored)
    other = Path(shutil.copytree(tiny_rows, tmp_path / "other"))
    shutil.copytree(scored / "subsets", other / "subsets")
    ours, theirs = (json.loads((r / "manifest.json").read_text())["fingerprints"]["train"] for r in (other, scored))
    with pytest.raises(ConfigError, match=f"rows: {theirs} in the subset, {ours} in this run"):
        chosen_rows(other)


@pytest.mark.fault("a damaged subset", "refused by name")
@pytest.mark.parametrize("damage", ["truncated", "changed", "facts"])
def test_a_damaged_subset_is_refused(damage: str, scored: Path) -> None:
    directory = choose(scored)
    path = directory / ("subset.json" if damage == "facts" else "rows.npy")
    content = path.read_bytes()
    path.write_bytes(content[:-8] + bytes(8) if damage == "changed" else content[:-8])
    with pytest.raises(DataError, match=rf"data\.subset: {re.escape(str(directory))} is damaged.*run `select` again"):
        chosen_rows(scored)
