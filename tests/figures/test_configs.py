"""Every figure of the repository can be planned, on the lab and on a real family, and says what it would show."""

import re

import pytest

from remit_lit.cli.dispatch import main
from remit_lit.jobs.job import with_inputs
from tests.processes import ROOT, documented_commands

FIGURES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "experiments" / "figures").glob("*.yaml"))
ON = ["", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "experiments/figures/on").glob("*_1b.yaml"))]


@pytest.mark.parametrize("on", ON, ids=lambda on: on.rsplit("/", 1)[-1] or "lab")
@pytest.mark.parametrize("config", FIGURES)
def test_every_figure_can_be_planned(config, on, tmp_path, monkeypatch, capsys, no_weights):
    monkeypatch.chdir(ROOT)
    planned = []
    monkeypatch.setattr("remit_lit.figures.figure.print_plan", lambda wanted, *_: planned.extend(with_inputs(wanted)))
    # Its methods are those of a table, whose own test reads their fields.
    assert "\nmethods:" not in (ROOT / config).read_text()
    under = [f"--config={on}"] if on else []
    main(["figure", f"--config={config}", *under, f"--cells={tmp_path}", "--dry_run=true", "--run=false"])
    assert planned
    # Whatever a job needs of another is declared, of the table that is under the figure and of no other.
    left_open = [argument for job in planned for argument in job.arguments if re.search(r"\{[\w.]+\}", argument)]
    assert not left_open
    assert not on or not any("lab/" in argument for job in planned for argument in job.arguments)
    assert config in (ROOT / config).read_text()  # the command that its comment gives
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", documented_commands("figure"), ids=" ".join)
def test_the_commands_of_the_documentation_can_be_planned(command, tmp_path, monkeypatch, capsys, no_weights):
    monkeypatch.chdir(ROOT)
    main([*command, f"--cells={tmp_path}", "--dry_run=true", "--run=false"])
    assert " to run" in capsys.readouterr().out


def test_a_figure_of_nothing_says_that_nothing_was_run(tmp_path, monkeypatch, capsys, no_weights):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    main(["figure", "--config=figures/7b_distance", "--run=false"])
    caption = (tmp_path / "runs/figures/7b_distance/caption.md").read_text()
    assert caption.count("; ours does not tell: ") == 3 and "were not run" in caption
    assert "distance to the reference, Distillation, seeds 11, 21, 31, 41: not run" in caption


def test_a_figure_of_a_table_shares_its_runs(tmp_path, monkeypatch, capsys, no_weights):
    """Of the gains through post-training, all jobs are the table's."""
    monkeypatch.chdir(ROOT)
    jobs = []
    for verb, config in (("table", "tables/transfer"), ("figure", "figures/5b_post_training")):
        module = f"remit_lit.{verb}s.{verb}"
        monkeypatch.setattr(f"{module}.print_plan", lambda wanted, *_: jobs.append({job.key for job in wanted}))
        main([verb, f"--config={config}", f"--cells={tmp_path}", "--dry_run=true", "--run=false"])
    assert jobs[1] and jobs[1] < jobs[0]
