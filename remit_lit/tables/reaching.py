"""When the learning curves of a table's runs reach their target, which is a figure of each seed."""

import math

from remit_lit.runs.history import read_history
from remit_lit.tables.contents import Missing
from remit_lit.tables.curves import Curve, Reached, speed_up, tokens_until
from remit_lit.tables.plan import Plan
from remit_lit.tables.settings import RowSettings, TableSettings


def learning_curves(plan: Plan, curve: str) -> dict[str, dict[int, Curve]]:
    """A figure over the tokens trained on, by method and seed, of the runs that are done and where it is finite."""
    curves: dict[str, dict[int, Curve]] = {}
    for (method, seed), run in plan.items():
        if run.fit is not None and run.fit.state == "done":
            points = [(p.tokens, p.figures[curve]) for p in read_history(run.fit.result) if curve in p.figures]
            if points and all(math.isfinite(value) for _, value in points):
                curves.setdefault(method, {})[seed] = points
    return curves


def reached(settings: TableSettings, plan: Plan, row: RowSettings, method: str, seed: int) -> tuple[Reached, str]:
    """The tokens until a curve reaches its target or the speed-up over the baseline, and what the target is.

    Raises:
        Missing: there is no curve, or nothing that it could be compared with.
    """
    points, baseline, target = _curve(plan, row, method, seed), None, row.reaches
    if row.speed_up or target is None:
        assert settings.baseline is not None
        baseline = _curve(plan, row, settings.baseline, seed)
        target = baseline[-1][1] if target is None else target
    if row.speed_up and baseline is not None:
        times = speed_up(points, baseline, higher_is_better=row.higher_is_better, target=target)
        if times is None:
            raise Missing(f"no speed-up: {target:.4g} is not reached by {settings.baseline}, or is there at the start")
        return times, f"{target:.4g}"
    tokens = tokens_until(points, target, higher_is_better=row.higher_is_better)
    if not tokens.value:
        raise Missing(f"no tokens: {target:.4g} is there at the start")
    return tokens, f"{target:.4g}"


def _curve(plan: Plan, row: RowSettings, method: str, seed: int) -> Curve:
    assert row.curve is not None
    curves = learning_curves({(method, seed): plan[method, seed]}, row.curve)
    if method not in curves:
        raise Missing(f"no curve of {method}: InLoopEvaluation did not measure {row.curve}, or it is not finite")
    return curves[method][seed]
