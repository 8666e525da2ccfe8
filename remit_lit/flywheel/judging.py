"""Whether a round was worth it: the judged arm against its control, on the same documents in the same round."""

import numpy as np

from remit_lit.errors import ConfigError
from remit_lit.evaluation.results import Floats
from remit_lit.evaluation.statistics import difference_over_seeds
from remit_lit.flywheel.settings import FlywheelSettings, method_name
from remit_lit.tables.contents import Contents
from remit_lit.tables.plan import Plan
from remit_lit.tables.settings import row_name

_ROWS = "--data.rows="


class _Missing(Exception):  # noqa: N818
    """Why a round cannot be judged."""


def rule(settings: FlywheelSettings) -> str:
    """In words, for how long the flywheel goes on."""
    judged, control = settings.arms[settings.judged].title, settings.arms[settings.control].title
    lead = f"the RL-tuned model of {judged} is above that of {control} in the same round"
    if settings.goes_on_while == "gains":
        lead += ", and by more than in the round before"
    return f"goes on while {lead}, in {settings.rows[settings.judge].title}, by the mean over seeds"


def require_same_documents(settings: FlywheelSettings, plan: Plan) -> None:
    """Refuse a control that is trained on other rows than the judged arm in one of its rounds.

    Raises:
        ConfigError: naming the arm.
    """
    for (method, seed), run in plan.items():
        arm, _, round_ = method.rpartition("_")
        if arm != settings.judged or round_ == "0":
            continue
        control = plan[method_name(settings.control, int(round_)), seed].fit
        assert run.fit is not None and control is not None
        rows = [[field for field in fit.arguments if field.startswith(_ROWS)] for fit in (run.fit, control)]
        if rows[0] != rows[1]:
            raise ConfigError(
                f"control: got {settings.control!r}, which is not trained on the rows of {settings.judged}; give an "
                "arm with the same data.prepare, or the same data.rows"
            )


def judge(settings: FlywheelSettings, found: Contents, round_: int) -> tuple[bool, str]:
    """Whether to go on after a round, by the rule, and what says so.

    The mean over seeds decides, whether or not its interval leaves out that nothing changed: a loop that waited for
    certainty would hardly turn.
    """
    try:
        judged, control = (_values(settings, found, arm, round_) for arm in (settings.judged, settings.control))
        before = np.zeros(len(judged))  # round 0 is of one arm alone
        if settings.goes_on_while == "gains" and round_ > 1:
            earlier = (_values(settings, found, arm, round_ - 1) for arm in (settings.judged, settings.control))
            before = np.subtract(*earlier)
    except _Missing as reason:
        return False, f"stops, since {reason}"
    lead = judged - control
    leads, gains = bool(lead.mean() > 0), bool(lead.mean() > before.mean())
    titles = [settings.arms[arm].title for arm in (settings.judged, settings.control)]
    verdict = f"{settings.rows[settings.judge].title} of the RL-tuned model is {judged.mean():.4g} of {titles[0]}, "
    verdict += f"{'above' if leads else 'not above'} the {control.mean():.4g} of {titles[1]} in the same round"
    if len(judged) > 1:
        change = difference_over_seeds(judged, control)
        verdict += f" ({change.mean:+.3g}, 95 % interval over seeds {change.low:+.3g} to {change.high:+.3g})"
    better = leads
    if settings.goes_on_while == "gains":
        better = leads and gains
        verdict += f": a lead of {lead.mean():+.3g}, {'above' if gains else 'not above'} the {before.mean():+.3g} of "
        verdict += "the round before"
    return better, verdict if better else f"stops, since {verdict}"


def _values(settings: FlywheelSettings, found: Contents, arm: str, round_: int) -> Floats:
    """What judges an arm after the last stage of a round, as it is shown; [seeds]."""
    method = method_name(arm, round_)
    entry = found.entries[row_name(settings.judge, settings.last_stage), method]
    if entry.missing:
        reason = next(iter(entry.missing.values()))
        raise _Missing(f"{found.columns[method]} has no {settings.judge} at its end: {reason}")
    return settings.rows[settings.judge].scale * np.array([metric.value for metric in entry.metrics.values()])
