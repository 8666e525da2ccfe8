"""The strategies of this package, listed from their own words."""

import inspect

import remit_lit.weighting as strategies_of_the_package
from remit_lit.weighting.base import TokenWeighting


def strategies() -> str:
    """List the strategies that ``model.weighting`` takes: name, class path, what it is, and where it is from.

    Returns:
        What is printed.
    """
    found = {name: getattr(strategies_of_the_package, name) for name in strategies_of_the_package.__all__}
    kinds = {name: kind for name, kind in found.items() if _is_strategy(kind)}
    lines = [f"  {name:<20} remit_lit.weighting.{name:<20} {_said_of(kind)}" for name, kind in sorted(kinds.items())]
    return "\n".join(
        [
            "model.weighting",
            *lines,
            "`python -m remit_lit fit --model.weighting.help=NAME` explains the fields of one; model.distillation "
            "adds a distillation term to any; a class of your own is named by its class_path",
        ]
    )


def _is_strategy(kind: object) -> bool:
    return inspect.isclass(kind) and issubclass(kind, TokenWeighting) and kind is not TokenWeighting


def _said_of(kind: type[TokenWeighting]) -> str:
    """The first line of its file, and whether it compares with a reference."""
    words = (inspect.getdoc(inspect.getmodule(kind)) or "").splitlines()[0].rstrip(".")
    return f"{words}; reads a reference" if kind.needs_reference or kind.selects_rows else words
