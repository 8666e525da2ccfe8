"""How all figures look, and how they are saved: the same numbers give the same bytes."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remit_lit.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from remit_lit.evaluation.statistics import Support

BLACK = "#000000"
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D3A9B")
"""Okabe and Ito's, which colour-blind readers can tell apart, with a purple instead of the pale yellow."""
_MARKERS = "s^DvPX*"
_MANY_DECADES = 4
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "remit_lit",  # else every file has other ids
    "svg.fonttype": "none",  # text that can be searched
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.0,
    "legend.frameon": False,
}


Style = dict[str, Any]
"""Colour, marker and line, as matplotlib's ``plot`` takes them."""
THIN: dict[str, float] = {"linewidth": 0.8}


@contextmanager
def drawing() -> Iterator[None]:
    """Our style within, whatever matplotlib was set to; as it was afterwards.

    Raises:
        ConfigError: matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError("figures: matplotlib is not installed; pip install 'remit_lit[evaluation]'") from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(width: float, height: float) -> "Figure":
    """In inches. Made without pyplot, so no window system is asked for and nothing stays open."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def styles(names: Iterable[str], baseline: str | None = None) -> dict[str, Style]:
    """The style of each name; the baseline is black. Beyond seven, colours recur with dashed lines.

    Of all methods of a table, in order, so that each looks the same in every figure.
    """
    others = [name for name in names if name != baseline]
    count = len(_COLORS)
    made: dict[str, Style] = {
        name: {
            "color": _COLORS[index % count],
            "marker": _MARKERS[(index + index // count) % count],
            "linestyle": "-" if index < count else "--",
        }
        for index, name in enumerate(others)
    }
    return {name: made.get(name, {"color": BLACK, "marker": "o", "linestyle": "-"}) for name in names}


def for_page(style: Style) -> dict[str, Any]:
    """The same look for the script of a page, which lifts colours where the page is dark; no colour is that of text."""
    color = None if style["color"] == BLACK else style["color"]
    return {"color": color, "marker": style["marker"], "dashed": style["linestyle"] == "--"}


def keep_in_range(axes: "Axes", support: "Support", scale: float = 1.0) -> None:
    """No vertical axis shows values that cannot be; ``scale`` is what is shown for a value of 1: 100 for percent."""
    low, high = axes.get_ylim()
    if support != "real":
        axes.set_ylim(max(low, 0.0), min(high, scale) if support == "share" else high)


def label_numbers(axis: "Axis", *, engineering: bool = False) -> None:
    """Ticks at round numbers, written plainly: matplotlib's own labels of a logarithmic axis are powers of ten.

    Args:
        axis: with its scale and its limits set.
        engineering: write thousands as k, millions as M.
    """
    from matplotlib.ticker import EngFormatter, LogFormatter, LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

    low, high = axis.get_view_interval()
    if axis.get_scale() == "log":
        decades = math.log10(high / low)
        axis.set_major_locator(MaxNLocator(5) if decades < 1 else LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))
        axis.set_minor_formatter(NullFormatter())
        if decades >= _MANY_DECADES and not engineering:
            axis.set_major_formatter(LogFormatter())
            return
    plain = ScalarFormatter(useOffset=False)
    axis.set_major_formatter(EngFormatter(sep="") if engineering else plain)


def save(figure: "Figure", path: Path) -> list[Path]:
    """As PNG and SVG beside each other; ``path`` has no suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    png, svg = path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.svg")
    figure.savefig(png, dpi=150, metadata={"Software": None})
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    return [png, svg]
