"""Figures, by the text and shapes of their SVG and the pixels of their PNG."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from remit_lit.errors import ConfigError
from remit_lit.tables.figures import Distance, draw_dynamics, draw_learning_curves, draw_rows
from remit_lit.tables.summary import summarize
from tests.tables.made import contents

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


def curves(path: Path) -> list[Path]:
    return draw_learning_curves(CURVES, "NTP", path, measured="accuracy", higher_is_better=True, title="Curves")


def dynamics(path: Path) -> list[Path]:
    return draw_dynamics(ARMS, path, to="the reference", title="Dynamics")


def texts(svg: Path) -> list[str]:
    return [text.strip() for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text())]


@pytest.mark.parametrize("draw", [rows, curves, dynamics])
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
    assert "ReMiT, 3 seeds: speed-up 3" in found
    assert "shuffled, 1 seed: never reaches it" in found
    assert "NTP, 3 seeds" in found and "where NTP ends" in found
    assert "accuracy (higher is better)" in found


def test_a_band_is_drawn_where_there_are_seeds_to_spread(tmp_path: Path):
    bands = (tmp_path / "curves.svg", tmp_path / "single.svg")
    curves(tmp_path / "curves")
    single = {name: {0: of_seeds[0]} for name, of_seeds in CURVES.items()}
    draw_learning_curves(single, None, tmp_path / "single", measured="accuracy", higher_is_better=True)
    assert [path.read_text().count('id="FillBetweenPolyCollection_') for path in bands] == [2, 0]
    assert not any("speed-up" in text for text in texts(bands[1]))


def test_of_many_curves_the_last_interval_alone_is_drawn(tmp_path: Path):
    many = {f"method {number}": CURVES["NTP"] for number in range(9)}
    few = dict(list(many.items())[:4])
    drawn = {}
    for name, given in (("many", many), ("few", few)):
        draw_learning_curves(given, None, tmp_path / name, measured="accuracy", higher_is_better=True)
        drawn[name] = (tmp_path / f"{name}.svg").read_text()
    assert drawn["few"].count('id="FillBetweenPolyCollection_') == 4
    assert "FillBetweenPolyCollection_" not in drawn["many"]
    # The eighth and ninth have the colours of the first two: dashed, in the plot, the legend and the interval.
    dashed = [line for line in re.findall(r'style="([^"]*)"', drawn["many"]) if "stroke-dasharray" in line]
    assert len(dashed) == 2 * 3 and "stroke-dasharray" not in drawn["few"]


def test_dynamics_have_their_stages_in_order_and_units(tmp_path: Path):
    found = texts(dynamics(tmp_path / "dynamics")[1])
    stages = [text for text in found if text in ("base", "mid-trained", "after GRPO")]
    assert stages == ["base", "mid-trained", "after GRPO"]
    assert "(nats a token)" in found and "top-1 agreement" in found and {"NTP", "ReMiT"} <= set(found)


def test_a_baseline_without_a_curve_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="baseline: got 'none'; give one of NTP, ReMiT, shuffled"):
        draw_learning_curves(CURVES, "none", tmp_path / "x", measured="", higher_is_better=True)


def test_matplotlib_is_only_asked_for_by_a_figure(tmp_path: Path):
    program = """
import sys
sys.modules["matplotlib"] = None
from pathlib import Path
from remit_lit.tables import latex, markdown, terminal, tidy
from remit_lit.tables.figures import draw_dynamics
draw_dynamics({}, Path("never"), to="x")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    message = "ConfigError: figures: matplotlib is not installed; pip install 'remit_lit[evaluation]'"
    assert ended.stderr.strip().splitlines()[-1].endswith(message)
    assert list(tmp_path.iterdir()) == []


def test_what_matplotlib_was_set_to_is_left_alone(tmp_path: Path):
    import matplotlib

    with matplotlib.rc_context({"font.size": 31.0}):
        rows(tmp_path / "rows")
        assert matplotlib.rcParams["font.size"] == 31.0
        changed = (tmp_path / "rows.svg").read_bytes()
    rows(tmp_path / "rows")
    assert (tmp_path / "rows.svg").read_bytes() == changed
