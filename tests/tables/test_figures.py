"""Figures, by the text and shapes of their SVG and the pixels of their PNG."""

import importlib
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from remit_lit.errors import ConfigError
from remit_lit.evaluation.results import Metric
from remit_lit.tables import courses, figures
from remit_lit.tables.contents import Entry, Row
from remit_lit.tables.courses import Distance, draw_dynamics, draw_learning_curves, draw_rounds
from remit_lit.tables.curves import speed_up
from remit_lit.tables.drawing import styles
from remit_lit.tables.figures import draw_differences, draw_rows
from remit_lit.tables.settings import Primary
from remit_lit.tables.summary import summarize
from tests.processes import SECONDS
from tests.tables.made import contents, entry
from tests.warm import ForkedProcess, forget

pytest.importorskip("matplotlib")

CURVES = {
    "NTP": {seed: [(t, 0.1 + 0.3 * t / 600 + 0.01 * seed) for t in range(0, 601, 100)] for seed in range(3)},
    "ReMiT": {seed: [(t, 0.1 + 0.9 * t / 600 + 0.01 * seed) for t in range(0, 601, 100)] for seed in range(3)},
    "shuffled": {0: [(t, 0.1) for t in range(0, 601, 100)]},
}
ARMS = {
    "NTP": {"base": [Distance(1.0, 0.5)], "mid-trained": [Distance(0.9, 0.55), Distance(0.8, 0.57)]},
    "ReMiT": {"base": [Distance(1.0, 0.5)], "after GRPO": [Distance(0.2, 0.9)]},
}


def rows(path: Path) -> list[Path]:
    return draw_rows(summarize(contents(), resamples=50), path)


def differences(path: Path) -> list[Path]:
    return draw_differences(summarize(contents(), resamples=50), path)


PALETTE = styles(["Pre-trained", *CURVES], "NTP")


def curves(path: Path) -> list[Path]:
    return draw_learning_curves(
        CURVES, "NTP", path, palette=PALETTE, measured="accuracy", higher_is_better=True, title="Curves"
    )


def dynamics(path: Path) -> list[Path]:
    return draw_dynamics(ARMS, path, palette=PALETTE, to="the reference", title="Dynamics")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn from now on, kept before they are saved."""
    kept: list[Any] = []

    def keep(figure: Any, path: Path) -> list[Path]:
        kept.append(figure)
        return []

    for module in (courses, figures):
        monkeypatch.setattr(module, "save", keep)
    return kept


def texts(svg: Path) -> list[str]:
    return [text.strip() for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text())]


@pytest.mark.parametrize("draw", [rows, differences, curves, dynamics])
def test_the_same_numbers_give_the_same_bytes(draw: Callable[[Path], list[Path]], tmp_path: Path):
    first, again = draw(tmp_path / "a" / "figure"), draw(tmp_path / "b" / "figure")
    assert [path.name for path in first] == ["figure.png", "figure.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert first[0].read_bytes().startswith(b"\x89PNG")


def test_rows_name_every_column_and_say_what_is_missing(tmp_path: Path):
    found = texts(rows(tmp_path / "rows")[1])
    for title in ("NTP", "RHO-1", "ReMiT [0.2]", "GSM8K | accuracy ↑", "bits_per_byte ↓", "not run"):
        assert title in found
    assert not any("61.64" in text or "48.14" in text for text in found)


def test_learning_curves_name_the_speed_up_and_who_never_reaches_it(tmp_path: Path):
    found = texts(curves(tmp_path / "curves")[1])
    # ReMiT rises three times as fast, so it is where NTP ends after a third of its tokens.
    assert "ReMiT, 3 seeds: speed-up 3.00 [3.00, 3.00]" in found
    assert "shuffled, 1 seed: never reaches it" in found
    assert "NTP, 3 seeds" in found and "where NTP ends" in found
    assert "accuracy (higher is better)" in found


def test_the_speed_up_of_a_figure_is_that_of_its_table(drawn: list[Any], tmp_path: Path):
    """Not of the mean curve: seeds that arrive at very different times have another one."""
    tokens = range(0, 601, 100)
    slow = {seed: [(t, 0.1 + 0.3 * t / 600) for t in tokens] for seed in range(3)}
    fast = {seed: [(t, min(1.0, 0.1 + 0.3 * times * t / 600)) for t in tokens] for seed, times in enumerate((1, 2, 6))}
    draw_learning_curves(
        {"NTP": slow, "ReMiT": fast}, "NTP", tmp_path / "x", palette=PALETTE, measured="", higher_is_better=True
    )
    each = [speed_up(fast[seed], slow[seed], higher_is_better=True) for seed in range(3)]
    values = np.array([times.value for times in each if times is not None])
    entries = {("row", "ntp"): Entry({0: Metric(np.ones(1), None)}), ("row", "remit"): Entry({}, {})}
    metrics = {seed: Metric(np.array([value]), None) for seed, value in enumerate(values)}
    entries["row", "remit"] = Entry(metrics)
    made = contents(rows={"row": Row("row", compared=False, log=True)}, entries=entries, published={})
    cell = summarize(made, resamples=50).cells["row", "remit"]
    assert cell.mean is not None and cell.interval is not None and cell.mean == pytest.approx(12 ** (1 / 3))
    labels = [line.get_label() for line in drawn[0].axes[0].lines]
    assert f"ReMiT, 3 seeds: speed-up {cell.mean:.2f} [{cell.interval.low:.2f}, {cell.interval.high:.2f}]" in labels


def test_a_seed_that_never_arrives_is_said_in_the_speed_up(drawn: list[Any], tmp_path: Path):
    part = {**CURVES["ReMiT"], 2: [(t, 0.11) for t in range(0, 601, 100)]}
    draw_learning_curves(
        {"NTP": CURVES["NTP"], "ReMiT": part}, "NTP", tmp_path, palette=PALETTE, measured="", higher_is_better=True
    )
    labels = [line.get_label() for line in drawn[0].axes[0].lines]
    # Two are three times as fast; the bound of the third is 1.
    assert f"ReMiT, 3 seeds: speed-up ≤ {9 ** (1 / 3):.2f}, 1 of 3 never reach it" in labels


def test_a_band_is_drawn_where_there_are_seeds_to_spread(tmp_path: Path):
    bands = (tmp_path / "curves.svg", tmp_path / "single.svg")
    curves(tmp_path / "curves")
    single = {name: {0: of_seeds[0]} for name, of_seeds in CURVES.items()}
    draw_learning_curves(single, None, tmp_path / "single", palette=PALETTE, measured="accuracy", higher_is_better=True)
    assert [path.read_text().count('id="FillBetweenPolyCollection_') for path in bands] == [2, 0]
    assert not any("speed-up" in text for text in texts(bands[1]))


def test_of_many_curves_each_has_a_panel_beside_the_baseline(drawn: list[Any], tmp_path: Path):
    many = {"NTP": CURVES["NTP"], **{f"method {number}": CURVES["ReMiT"] for number in range(8)}}
    looks = styles(many, "NTP")
    draw_learning_curves(many, "NTP", tmp_path, palette=looks, measured="accuracy", higher_is_better=True)
    panels = [axes for axes in drawn[0].axes if axes.lines]
    assert len(panels) == 8
    for number, axes in enumerate(panels):
        assert axes.get_title().startswith(f"method {number}, 3 seeds: speed-up 3.00")
        baseline, method, _ = axes.lines
        assert (baseline.get_color(), method.get_color()) == ("#000000", looks[f"method {number}"]["color"])
        assert len(axes.collections) == 2  # a band of each, at its own tokens
        for band in axes.collections:
            assert set(band.get_paths()[0].vertices[:, 0]) == set(range(0, 601, 100))


def test_a_method_looks_the_same_in_every_figure(drawn: list[Any], tmp_path: Path):
    """Also where another one, such as a model that nothing was trained of, is in some of them alone."""
    made = contents()
    titles = list(made.columns.values())
    palette = styles(titles, "NTP")
    summary = summarize(made, resamples=50)
    draw_rows(summary, tmp_path)
    draw_differences(summary, tmp_path)
    draw_learning_curves(
        {"NTP": CURVES["NTP"], "ReMiT [0.2]": CURVES["ReMiT"]},
        "NTP",
        tmp_path,
        palette=palette,
        measured="",
        higher_is_better=True,
    )
    draw_dynamics({"ReMiT [0.2]": ARMS["ReMiT"]}, tmp_path, palette=palette, to="x")
    wanted = palette["ReMiT [0.2]"]["color"]
    for figure in drawn:
        assert wanted in {line.get_color() for line in figure.axes[0].lines}
    assert [label.get_text() for label in drawn[0].axes[0].get_yticklabels()] == titles
    assert [label.get_text() for label in drawn[1].axes[0].get_yticklabels()] == titles[1:]


def test_no_axis_shows_what_cannot_be(drawn: list[Any], tmp_path: Path):
    shares = entry([0.99, 0.2, 0.98], items=1)
    losses = entry([0.05, 0.9, 0.1], items=1, higher_is_better=False)
    rows = {"gsm8k": Row("accuracy", 100.0), "bpb": Row("loss")}
    entries = {(row, name): of for row, of in (("gsm8k", shares), ("bpb", losses)) for name in ("ntp", "rho1", "remit")}
    draw_rows(summarize(contents(rows=rows, entries=entries, published={}), resamples=50), tmp_path)
    share, loss = drawn[0].axes
    assert share.get_xlim()[0] >= 0 and share.get_xlim()[1] == 100
    assert loss.get_xlim()[0] >= 0
    rising = {"NTP": {seed: [(0, 0.5), (10, value)] for seed, value in enumerate((0.7, 0.999, 0.99))}}
    draw_learning_curves(rising, None, tmp_path, palette=PALETTE, measured="", higher_is_better=True)
    assert drawn[1].axes[0].get_ylim()[1] == 1.0
    nearly = {"NTP": {"base": [Distance(0.01, 0.99), Distance(0.4, 0.2), Distance(0.02, 0.98)]}}
    draw_dynamics(nearly, tmp_path, palette=PALETTE, to="x")
    kl, agreement = drawn[2].axes
    assert kl.get_ylim()[0] >= 0 and agreement.get_ylim()[1] <= 1
    draw_rounds({"NTP": {0: [0.99, 0.2], 1: [0.98, 0.9]}}, "NTP", tmp_path, measured="", title="")
    assert drawn[3].axes[0].get_ylim()[1] <= 1


def test_differences_are_drawn_where_they_are(drawn: list[Any], tmp_path: Path):
    primary = Primary("gsm8k", "remit", "ntp")
    summary = summarize(contents(primary=primary), resamples=50)
    draw_differences(summary, tmp_path)
    axes = drawn[0].axes[0]
    intervals = [
        tuple(line.get_xdata()) for line in axes.lines if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2
    ]
    for column in ("rho1", "remit"):
        difference = summary.cells["gsm8k", column].difference
        assert difference is not None and difference.over_seeds is not None
        assert (difference.over_seeds.low, difference.over_seeds.high) in intervals
    assert [text.get_text() for text in axes.texts] == ["primary"]
    assert draw_differences(summarize(contents(baseline=None, published={}), resamples=50), tmp_path) == []


def test_speed_ups_have_a_logarithmic_axis_and_bounds_are_hollow(drawn: list[Any], tmp_path: Path):
    whole = entry([1.5, 2.0, 3.0], items=1, higher_is_better=None)
    part = replace(whole, censored={2: "never reaches 0.7"}, bound="at most")
    entries = {("row", "ntp"): whole, ("row", "rho1"): part}
    rows = {"row": Row("speed-up", compared=False, log=True)}
    draw_rows(summarize(contents(rows=rows, entries=entries, published={}), resamples=50), tmp_path)
    [axes] = drawn[0].axes
    assert axes.get_xscale() == "log"
    faces = {
        line.get_ydata()[0]: line.get_markerfacecolor() for line in axes.lines if line.get_marker() not in ("", "None")
    }
    assert faces[1] == "white" and faces[0] != "white"


def test_speed_ups_that_are_close_have_numbers_on_their_axis(drawn: list[Any], tmp_path: Path):
    near = entry([1.61, 1.64, 1.66], items=1, higher_is_better=None)
    rows = {"row": Row("speed-up", compared=False, log=True)}
    draw_rows(summarize(contents(rows=rows, entries={("row", "rho1"): near}, published={}), resamples=50), tmp_path)
    [axes] = drawn[0].axes
    drawn[0].canvas.draw()
    low, high = axes.get_xlim()
    shown = [label.get_text() for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
    assert len(shown) >= 2 and all(low <= float(text) <= high for text in shown)


def test_what_was_set_is_not_drawn(drawn: list[Any], tmp_path: Path):
    rows = {name: Row(name, compared=False) for name in ("tokens", "flops", "seconds")}
    of = {"tokens": ([100, 100], [100, 100]), "flops": ([1, 1], [2, 2]), "seconds": ([3, 4], [5, 5])}
    entries = {
        (name, column): entry(values, items=1, higher_is_better=None)
        for name, both in of.items()
        for column, values in zip(("ntp", "remit"), both, strict=True)
    }
    made = contents(rows=rows, entries=entries, published={})
    draw_rows(summarize(made, resamples=50), tmp_path)
    assert [axes.get_title() for axes in drawn[0].axes] == ["seconds"]
    set_alone = summarize(replace(made, rows={"tokens": rows["tokens"]}), resamples=50)
    assert draw_rows(set_alone, tmp_path) == [] and len(drawn) == 1


def test_dynamics_have_their_stages_in_order_and_units(tmp_path: Path):
    found = texts(dynamics(tmp_path / "dynamics")[1])
    stages = [text for text in found if text in ("base", "mid-trained", "after GRPO")]
    assert stages == ["base", "mid-trained", "after GRPO"]
    assert "(nats a token)" in found and "top-1 agreement" in found and {"NTP", "ReMiT"} <= set(found)


def test_a_baseline_without_a_curve_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="baseline: got 'none'; give one of NTP, ReMiT, shuffled"):
        draw_learning_curves(CURVES, "none", tmp_path / "x", palette=PALETTE, measured="", higher_is_better=True)


def draw_without_matplotlib() -> None:
    forget("matplotlib", "remit_lit")
    sys.modules["matplotlib"] = None  # type: ignore[assignment]
    for module in ("latex", "markdown", "terminal", "tidy"):
        importlib.import_module(f"remit_lit.tables.{module}")
    draw = importlib.import_module("remit_lit.tables.courses").draw_dynamics
    draw({}, Path("never"), palette={}, to="x")


def test_matplotlib_is_only_asked_for_by_a_figure(tmp_path: Path):
    (place := tmp_path / "place").mkdir()
    ForkedProcess(draw_without_matplotlib, [], tmp_path / "printed.txt", cwd=place).wait(SECONDS)
    message = "ConfigError: figures: matplotlib is not installed; pip install 'remit_lit[evaluation]'"
    assert (tmp_path / "printed.txt").read_text().strip().splitlines()[-1].endswith(message)
    assert list(place.iterdir()) == []


def test_what_matplotlib_was_set_to_is_left_alone(tmp_path: Path):
    import matplotlib

    with matplotlib.rc_context({"font.size": 31.0}):
        rows(tmp_path / "rows")
        assert matplotlib.rcParams["font.size"] == 31.0
        changed = (tmp_path / "rows.svg").read_bytes()
    rows(tmp_path / "rows")
    assert (tmp_path / "rows.svg").read_bytes() == changed
