"""What may be said of a table's figures."""

import csv
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from remit_lit.errors import ConfigError, DataError
from remit_lit.evaluation.results import Metric
from remit_lit.evaluation.statistics import holm, over_seeds, over_seeds_log
from remit_lit.tables.contents import Contents, Entry, Row
from remit_lit.tables.latex import to_latex
from remit_lit.tables.markdown import to_markdown
from remit_lit.tables.settings import Primary
from remit_lit.tables.summary import Summary, summarize
from remit_lit.tables.tidy import cells_csv, seeds_csv
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
    expected = over_seeds(np.array([0.40, 0.42, 0.41]), "share").scaled(100)
    assert cell.interval is not None and cell.over == "seeds"
    assert (cell.mean, cell.interval.low, cell.interval.high) == pytest.approx((41, expected.low, expected.high))
    assert cell.values == pytest.approx({0: 40, 1: 42, 2: 41})
    assert (cell.n_items, cell.planned) == (40, 3)


@pytest.mark.parametrize(
    ("values", "higher", "ends"), [([0.2, 0.99, 0.98], True, (0, 1)), ([0.05, 0.9, 0.1], False, (0, np.inf))]
)
def test_no_interval_leaves_its_range(values: list[float], higher: bool, ends: tuple[float, float]):
    made = {"base": entry(values, items=1, higher_is_better=higher)}
    summary = table(made, row=Row("row", scale=100.0))
    interval = summary.cells["row", "base"].interval
    assert interval is not None and 100 * ends[0] < interval.low < interval.high < 100 * ends[1]
    assert summary.ranges["row"] == (0.0, 100.0 * ends[1])


def test_speed_ups_are_taken_on_a_logarithmic_scale_and_bounds_are_kept():
    row = Row("speed-up", compared=False, log=True)
    whole = entry([1.5, 2.0, 3.0], items=1, higher_is_better=None)
    part = replace(whole, censored={2: "never reaches 0.7"}, bound="at most")
    cells = table({"base": whole, "other": part}, row=row).cells
    expected = over_seeds_log(np.array([1.5, 2.0, 3.0]))
    assert cells["row", "base"].mean == pytest.approx(expected.mean) == pytest.approx(stats.gmean([1.5, 2.0, 3.0]))
    assert cells["row", "base"].interval == expected and cells["row", "base"].bound is None
    bounded = cells["row", "other"]
    assert bounded.mean == pytest.approx(expected.mean)
    assert bounded.interval is None and bounded.bound == "at most"
    assert list(bounded.values) == [0, 1, 2] and bounded.censored == {2: "never reaches 0.7"}


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


def test_holm_is_over_the_methods_of_a_row():
    rng = np.random.default_rng(0)
    rows: dict[str, bool | None] = {"a": True, "b": False, "c": None}
    columns = ("base", "one", "two", "three")
    entries = {
        (name, column): entry(list(rng.normal(0.5, 0.1, 4)), higher_is_better=higher)
        for name, higher in rows.items()
        for column in columns
    }
    made = Contents("", {name: Row(name) for name in rows}, {c: c for c in columns}, "base", entries)
    cells = summarize(made, resamples=50).cells
    for name in ("a", "b"):
        found = [cells[name, column].difference for column in columns[1:]]
        p_values = [of.p_value for of in found if of is not None and of.p_value is not None]
        assert len(p_values) == 3 and not any(of.primary for of in found if of is not None)
        assert [of.p_holm for of in found if of is not None] == pytest.approx(holm(p_values))
    # No test where neither more nor less is better.
    assert all((of := cells["c", column].difference) is not None and of.p_holm is None for column in columns[1:])


def test_the_primary_comparison_is_a_question_of_its_own():
    values = {"base": [0.40, 0.42, 0.41], "one": [0.52, 0.66, 0.60], "two": [0.5, 0.6, 0.65], "three": [0.41, 0.5, 0.6]}
    entries = {("row", name): entry(of) for name, of in values.items()}
    made = Contents("", {"row": Row("row")}, {name: name for name in values}, "base", entries)
    secondary = summarize(made, resamples=50).cells
    cells = summarize(replace(made, primary=Primary("row", "one", "base")), resamples=50).cells
    p = {name: found.p_value for name in values if (found := cells["row", name].difference) is not None}
    first, second, third = (cells["row", name].difference for name in ("one", "two", "three"))
    assert first is not None and second is not None and third is not None
    assert (first.primary, second.primary, third.primary) == (True, False, False)
    assert first.p_holm == first.p_value
    assert [second.p_holm, third.p_holm] == pytest.approx(holm([p["two"] or 0, p["three"] or 0]))
    assert secondary["row", "one"].difference != first
    # Bold follows: alone it is below 0.05, as one of three it is not.
    assert first.p_value is not None and 0.05 / 3 < first.p_value < 0.05
    assert cells["row", "one"].bold and not secondary["row", "one"].bold


def test_a_test_that_cannot_tell_counts_among_the_questions():
    entries = {
        "base": entry([0.1, 0.2, 0.3]),
        "shifted": entry([0.2, 0.3, 0.4]),
        "other": entry([0.60, 0.73, 0.80]),
    }
    cells = table(entries).cells
    tested, untold = cells["row", "other"].difference, cells["row", "shifted"].difference
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
    more = {f"m{number}": entry([0.40, 0.50, 0.37]) for number in range(5)}
    assert bold(table({"base": base, "other": other, **more})) == []


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


def test_blocks_give_a_second_interval_over_their_means():
    rng = np.random.default_rng(1)
    baseline, gain = rng.random(6), 0.1 + 0.01 * rng.normal(size=6)
    columns = {"base": entry(list(baseline)), "other": entry(list(baseline + gain))}
    varied = {seed: {"order": str(seed % 2), "start": "abc"[seed // 2]} for seed in range(6)}
    made = Contents(
        "",
        {"row": Row("row", 100.0)},
        {name: name for name in columns},
        "base",
        {("row", name): of for name, of in columns.items()},
        varied=varied,
        block="start",
    )
    summary = summarize(made, resamples=200)
    found = summary.cells["row", "other"].difference
    means = [100 * (gain[first] + gain[first + 1]) / 2 for first in (0, 2, 4)]
    expected = stats.ttest_1samp(means, 0.0)
    interval = expected.confidence_interval(0.95)
    assert found is not None and found.over_blocks is not None
    assert (found.over_blocks.low, found.over_blocks.high) == pytest.approx((interval.low, interval.high))
    assert found.over_blocks.p_value == pytest.approx(expected.pvalue)
    assert found.over_blocks.mean == pytest.approx(found.mean)
    lines = list(csv.DictReader(seeds_csv(summary).splitlines()))
    assert {(line["seed"], line["order"], line["start"]) for line in lines} == {
        (str(seed), of["order"], of["start"]) for seed, of in varied.items()
    }
    (cell,) = [line for line in csv.DictReader(cells_csv(summary).splitlines()) if line["column"] == "other"]
    assert float(cell["diff_blocks_low"]) == pytest.approx(interval.low)
    for text in (to_markdown(summary), to_latex(summary)):
        assert "over start" in text and f"{interval.high:+.2f}" in text
    assert "over start" not in to_markdown(table(columns))
