"""Everything that a report shows, as JSON values."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from remit_lit import __version__
from remit_lit.report.panels import sections_of
from remit_lit.report.run import Run
from remit_lit.runs.wording import is_share, title_of
from remit_lit.tables.drawing import for_page, styles

_VALIDATED = ("val/", "lab/", "eval/")
_AT_THE_END = "lab/test_"


def contents(runs: Sequence[Run]) -> dict[str, Any]:
    """What the page reads; the same runs give the same bytes."""
    looks = styles([run.name for run in runs])
    return {
        "version": __version__,
        "runs": [
            {
                "name": run.name,
                "folder": str(run.folder),
                "look": for_page(looks[run.name]),
                "state": _state(run),
                "ended": run.has_ended,
                "facts": _facts(run),
                "missing": list(run.missing),
                "tokensPerStep": run.record.get("tokens_per_step"),
                "data": _data(run.record.get("data", {})),
            }
            for run in runs
        ],
        "sections": sections_of(runs),
        "settings": _settings(runs),
        "results": _logged(runs),
        "measured": [*_measured_at_the_end(runs), *_dev_problems(runs)],
    }


def _state(run: Run) -> str:
    steps = run.record.get("ended_at_step") or run.record.get("results", {}).get("steps")
    if run.has_ended:
        return f"ended {run.record['ended']}" + (f" after {steps:,} steps" if steps else "")
    last = max((points[-1][0] for points in run.metrics.values()), default=None)
    planned = run.record.get("steps")
    logged = "nothing logged" if last is None else f"last logged at step {last:,}"
    return f"has not ended, {logged}" + (f" of {planned:,}" if planned else "")


def _facts(run: Run) -> list[list[str]]:
    """Name and value of what a reader asks first; what the record does not have is left out."""
    record, cost = run.record, run.record.get("cost") or {}
    weighting = ", ".join(f"{name} {value}" for name, value in (record.get("weighting_settings") or {}).items())
    policy = record.get("policy") or (record.get("model") or {}).get("path")
    versions = record.get("versions") or {}
    facts = {
        "state": _state(run),
        "stage": record.get("stage"),
        "policy": policy,
        "reference": record.get("reference"),
        "strategy": record.get("weighting") and f"{record['weighting']} ({weighting or 'no settings'})",
        "steps": record.get("steps") and f"{record['steps']:,}",
        "tokens a step": record.get("tokens_per_step") and f"{record['tokens_per_step']:,}",
        "tokens": cost.get("tokens") and f"{cost['tokens']:,}",
        "FLOPs": cost.get("policy_flops")
        and f"{cost['policy_flops']:.3g} of the policy, {cost.get('reference_flops', 0):.3g} of references",
        "seconds": _seconds(cost.get("seconds") or record.get("seconds")),
        "device": (record.get("machine") or {}).get("device"),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "revision": record.get("git_revision"),
        "command": " ".join(record.get("command") or []),
    }
    return [[name, str(value)] for name, value in facts.items() if value]


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}"


def _data(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each split its rows, and of each source its documents, tokens and share of the tokens: the mix."""
    splits = []
    for name, split in (data.get("counts") or {}).items():
        total = sum(source["tokens"] for source in split["sources"].values())
        sources = [
            [source, f"{of['documents']:,}", f"{of['tokens']:,}", f"{100 * of['tokens'] / total:.1f} %"]
            for source, of in split["sources"].items()
            if total
        ]
        splits.append({"title": f"{name}, {split['rows']:,} rows", "sources": sources})
    return splits


def _settings(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A line for each setting that a run changed from its default; those in which the runs differ first."""
    lines = []
    for name in dict.fromkeys(name for run in runs for name in run.changed):
        values = [_shown(run.changed[name]) if name in run.changed else None for run in runs]
        lines.append({"name": name, "values": values, "differs": len(set(values)) > 1})
    return sorted(lines, key=lambda line: not line["differs"])


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _logged(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A line for each figure of a validation or a task: by run, the first and the last that was logged."""
    figures = dict.fromkeys(figure for run in runs for figure in run.metrics if figure.startswith(_VALIDATED))
    return [
        {"title": title_of(figure), "values": [_first_and_last(figure, run) for run in runs]}
        for figure in figures
        if not figure.startswith(_AT_THE_END)
    ]


def _measured_at_the_end(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """A line for each figure that was measured when training ended."""
    measured = dict.fromkeys(
        (task, metric)
        for run in runs
        if run.evaluation is not None
        for task, result in run.evaluation.tasks.items()
        for metric in result.metrics
    )
    return [_measured(task, metric, runs) for task, metric in measured]


def _first_and_last(figure: str, run: Run) -> list[str]:
    points = run.metrics.get(figure)
    if not points:
        return ["", ""]
    first, last = points[0], points[-1]
    return [f"{_figure(figure, first[1])} at step {first[0]:,}" if len(points) > 1 else "", _figure(figure, last[1])]


def _measured(task: str, metric: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Items stand in the title where all runs were measured on as many, else with each figure."""
    tasks = [run.evaluation.tasks.get(task) if run.evaluation else None for run in runs]
    found = [result.metrics.get(metric) if result else None for result in tasks]
    counts = [f"{len(one.outcomes):,} items" if one else "" for one in found]
    is_shared = len({count for count in counts if count}) == 1
    title = title_of(f"{task}/{metric}") + (f" ({max(counts)})" if is_shared else "")
    values = [_figure(metric, one.value) if one else "" for one in found]
    shown = (
        values
        if is_shared
        else [f"{value}, {count}" if value else "" for value, count in zip(values, counts, strict=True)]
    )
    return {"title": title, "values": [["", value] for value in shown]}


def _dev_problems(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What a stage of post-training measured before and after."""
    sides = [(run.record.get("before") or {}, run.record.get("after") or {}) for run in runs]
    names = dict.fromkeys(name for before, after in sides for name in (*before, *after))
    return [
        {
            "title": f"dev problems, {title_of(name)}",
            "values": [[_figure(name, side[name]) if name in side else "" for side in both] for both in sides],
        }
        for name in names
    ]


def _figure(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if is_share(name) else f"{value:.4f}"
