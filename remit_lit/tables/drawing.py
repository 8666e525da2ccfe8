"""How all figures look, and how they are saved: the same numbers give the same bytes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remit_lit.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLACK = "#000000"
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D3A9B")
"""Okabe and Ito's, which colour-blind readers can tell apart, with a purple instead of the pale yellow."""
_MARKERS = "s^DvPX*"
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


def save(figure: "Figure", path: Path) -> list[Path]:
    """As PNG and SVG beside each other; ``path`` has no suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    png, svg = path.with_name(f"{path.name}.png"), path.with_name(f"{path.name}.svg")
    figure.savefig(png, dpi=150, metadata={"Software": None})
    figure.savefig(svg, metadata={"Date": None, "Creator": None})
    return [png, svg]
