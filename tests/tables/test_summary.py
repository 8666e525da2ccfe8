"""What may be said of a table's figures."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from remit_lit.errors import ConfigError, DataError
from remit_lit.evaluation.results import Metric
from remit_lit.tables.contents import Contents, Entry, Row
from remit_lit.tables.summary import Summary, summarize
from tests.tables.made import contents, entry, metric


def table(entries: dict[str, Entry], baseline: str | None = "base", row: Row | None = None) -> Summary:
    """One row of these columns."""
    columns = {name: name for name in entries}
    return summarize(
        Contents(
            "", {"row": row or Row("row")}, columns, baseline, {("row", name): of for name, of in entries.items()}
        ),
        resamples=200,
    )


def bold(summary: Summary) -> list[str]:
    return [column for (_, column), cell in summary.cells.items() if cell.bold]


def test_seeds_give_a_t_interval_in_the_units_shown():
    cell = summarize(contents(), resamples=200).cells["gsm8k", "ntp"]
    expected = stats.ttest_1samp([40, 42, 41], 0).confidence_interval(0.95)
    assert cell.interval is not None and cell.over == "seeds"
    assert (cell.mean, cell.interval.low, cell.interval.high) == pytest.approx((41, expected.low, expected.high))
    assert cell.values == pytest.approx({0: 40, 1: 42, 2: 41})
    assert (cell.n_items, cell.planned) == (40, 3)


def test_one_seed_gives_an_interval_over_items():
    cell = table({"base": entry([0.4])}).cells["row", "base"]
    assert cell.over == "items" and cell.interval is not None
    assert cell.interval.low < 0.4 < cell.interval.high


def test_one_seed_and_one_item_give_a_figure_without_interval():
    summary = table({"base": entry([5.0], items=1), "other": entry([7.0], items=1)})
    cell = summary.cells["row", "other"]
    assert (cell.mean, cell.interval, cell.over) == (7.0, None, None)
    assert cell.difference is not None
    assert (cell.difference.mean, cell.difference.p_value, bold(summary)) == (2.0, None, [])


def test_differences_are_paired_by_seed_and_by_item():
    rng = np.random.default_rng(0)
    hard, lucky = rng.random(40), 0.2 * rng.random(4)
    baseline = {seed: Metric(hard + lucky[seed], True) for seed in range(4)}
    values = {seed: Metric(hard + lucky[seed] + 0.01 + 0.001 * rng.normal(size=40), True) for seed in range(1, 4)}
    found = table({"base": Entry(baseline), "other": Entry(values)}).cells["row", "other"].difference
    assert found is not None and found.over_seeds is not None and found.over_items is not None
    shared = [1, 2, 3]
    expected = stats.ttest_rel([values[s].value for s in shared], [baseline[s].value for s in shared])
    assert found.n_seeds == 3
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.mean == pytest.approx(found.over_seeds.mean) == pytest.approx(found.over_items.mean)
    assert found.over_items.high - found.over_items.low < 0.002  # neither hard items nor lucky seeds are left in it


def test_what_was_set_and_not_found_is_not_compared():
    entries = {"base": entry([0.4, 0.5]), "other": entry([0.6, 0.8])}
    found = table(entries, row=Row("row", compared=False)).cells["row", "other"]
    assert found.mean == pytest.approx(0.7) and found.difference is None
    assert table(entries).cells["row", "other"].difference is not None


def test_a_model_that_no_seed_changes_spreads_over_items_alone():
    fixed = replace(entry([0.4, 0.4, 0.4]), fixed=True)
    found = table({"base": entry([0.5, 0.6, 0.7]), "other": fixed}).cells["row", "other"]
    assert found.over == "items" and list(found.values) == [0] and found.interval is not None
    assert found.interval == table({"base": entry([0.5]), "other": entry([0.4])}).cells["row", "other"].interval
    # Against the baseline each of its seeds counts.
    assert found.difference is not None and found.difference.n_seeds == 3
    assert found.difference.mean == pytest.approx(-0.2)


def test_a_method_with_a_failed_seed_is_not_set_in_bold():
    entries = {"base": entry([0.40, 0.41, 0.42]), "other": entry([0.80, 0.82, 0.81])}
    assert table(entries).cells["row", "other"].bold
    for name in entries:
        incomplete = {**entries, name: replace(entries[name], missing={3: "failed: NaN"})}
        assert not table(incomplete).cells["row", "other"].bold


def test_items_in_another_order_are_not_paired():
    def of(items):
        return Entry({0: replace(metric(0.5), items=items)})

    with pytest.raises(DataError, match=r"not measured on the same items .* in the same order"):
        table({"base": of("a"), "other": of("b")})
    assert table({"base": of("a"), "other": of("a")}).cells["row", "other"].difference is not None


def test_one_seed_is_tested_over_items():
    found = table({"base": entry([0.4]), "other": entry([0.4])}).cells["row", "other"].difference
    assert found is not None and found.over_seeds is None and found.over_items is not None
    assert found.p_value == found.over_items.p_value == 1.0


def test_holm_is_over_the_rows_of_a_column():
    rng = np.random.default_rng(0)
    rows = {name: Row(name) for name in "abcd"}
    directions: dict[str, bool | None] = {"a": True, "b": False, "c": True, "d": None}
    entries = {
        (name, column): entry(list(rng.normal(0.5, 0.1, 4)), higher_is_better=directions[name])
        for name in rows
        for column in ("base", "one", "two")
    }
    summary = summarize(Contents("", rows, {c: c for c in ("base", "one", "two")}, "base", entries), resamples=50)
    for column in ("one", "two"):
        found = {name: summary.cells[name, column].difference for name in rows}
        p_values = [of.p_value for of in found.values() if of is not None and of.p_value is not None]
        assert len(p_values) == 3  # no test of d, where neither more nor less is better
        ordered = sorted(p_values)
        smallest = next(of for of in found.values() if of is not None and of.p_value == ordered[0])
        assert smallest.p_holm == pytest.approx(min(1, 3 * ordered[0]))
        assert found["d"] is not None and found["d"].p_holm is None


def test_a_test_that_cannot_tell_counts_among_the_questions():
    rows = {"a": Row("a"), "b": Row("b")}
    entries = {
        ("a", "base"): entry([0.40, 0.42, 0.41]),
        ("a", "other"): entry([0.60, 0.63, 0.60]),
        ("b", "base"): entry([0.1, 0.2, 0.3]),
        ("b", "other"): entry([0.2, 0.3, 0.4]),
    }
    cells = summarize(Contents("", rows, {"base": "", "other": ""}, "base", entries), resamples=50).cells
    tested, untold = cells["a", "other"].difference, cells["b", "other"].difference
    assert untold is not None and untold.p_value is None and untold.p_holm is None
    assert tested is not None and tested.p_value is not None
    assert tested.p_holm == pytest.approx(2 * tested.p_value)


@pytest.mark.parametrize(
    ("columns", "higher", "expected"),
    [
        ({"base": [0.40, 0.41, 0.42], "a": [0.60, 0.61, 0.63], "b": [0.50, 0.51, 0.53]}, True, ["a"]),
        ({"base": [0.40, 0.41, 0.42], "a": [0.60, 0.61, 0.63], "b": [0.50, 0.51, 0.53]}, False, []),  # baseline best
        ({"base": [0.60, 0.61, 0.62], "a": [0.40, 0.42, 0.41], "b": [0.50, 0.51, 0.53]}, False, ["a"]),
        ({"base": [0.40, 0.41, 0.42], "a": [0.20, 0.90, 0.60], "b": [0.40, 0.42, 0.41]}, True, []),  # best by chance
        ({"base": [0.40, 0.41, 0.42], "a": [0.60, 0.61, 0.63], "b": [0.50, 0.51, 0.53]}, None, []),
        (
            {"base": [0.40, 0.41, 0.42], "a": [0.50, 0.51, 0.53], "b": [0.2, 0.95, 0.95]},
            True,
            [],
        ),  # second best is sure
    ],
)
def test_the_best_is_bold_where_it_surely_beats_the_baseline(
    columns: dict[str, list[float]], higher: bool | None, expected: list[str]
):
    assert bold(table({name: entry(of, higher_is_better=higher) for name, of in columns.items()})) == expected


def test_nothing_is_bold_without_a_baseline():
    summary = table({"a": entry([0.4, 0.41]), "b": entry([0.6, 0.62])}, baseline=None)
    assert bold(summary) == [] and summary.cells["row", "b"].difference is None


def test_holm_takes_a_bold_away():
    other, base = entry([0.60, 0.63, 0.60]), entry([0.40, 0.49, 0.38])
    alone = table({"base": base, "other": other})
    found = alone.cells["row", "other"].difference
    assert found is not None and found.p_value is not None and 0.05 / 6 < found.p_value < 0.05
    assert bold(alone) == ["other"]
    rows = {str(number): Row("") for number in range(6)}
    entries = {(name, column): of for name in rows for column, of in (("base", base), ("other", other))}
    many = summarize(Contents("", rows, {"base": "", "other": ""}, "base", entries), resamples=50)
    assert bold(many) == []


def test_missing_seeds_keep_their_reasons():
    cells = summarize(contents(), resamples=200).cells
    some, none = cells["bpb", "rho1"], cells["bpb", "remit"]
    assert (len(some.values), some.planned) == (2, 3)
    assert some.missing == {2: "failed: out of memory at step 7"}
    assert some.difference is not None and some.difference.n_seeds == 2
    assert (none.mean, none.interval, none.difference, none.planned) == (None, None, None, 3)
    assert none.published == 0.123


def test_a_diverged_seed_is_missing_and_not_averaged():
    diverged = Entry({0: metric(0.5), 1: metric(float("nan")), 2: metric(0.7)})
    cell = table({"base": diverged}).cells["row", "base"]
    assert cell.mean == pytest.approx(0.6)
    assert cell.missing == {1: "not finite: nan"}


def test_published_figures_change_nothing_of_ours():
    ours, alone = contents(), contents(published={})
    with_, without = (summarize(of, resamples=200).cells for of in (ours, alone))
    assert {place: replace(cell, published=None) for place, cell in with_.items()} == dict(without)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        (entry([0.5], items=30), r"rows\.row: base, seed 0 \(40 items\) and other, seed 0 \(30 items\)"),
        (entry([0.5], higher_is_better=False), r"rows\.row: higher_is_better differs between base, seed 0 and other"),
        (Entry({0: Metric(np.ones(40), True, np.ones(40))}), "not measured on the same items with the same weights"),
    ],
)
def test_what_cannot_be_compared_is_refused(others: Entry, message: str):
    with pytest.raises(DataError, match=message):
        table({"base": entry([0.4]), "other": others})


def test_a_baseline_that_is_no_column_is_refused():
    changes: dict[str, Any] = {"baseline": "vanilla"}
    with pytest.raises(ConfigError, match="baseline: got 'vanilla'; give one of ntp, rho1, remit"):
        summarize(contents(**changes))
