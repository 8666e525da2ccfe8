"""A log file tells how far a run is; a terminal, which has its bar, is left alone."""

import re
import sys

import pytest

from remit_lit.errors import ConfigError
from remit_lit.training.callbacks.progress_lines import ProgressLines
from tests.helpers import fit

LINE = re.compile(r"step (\d+) of 4: train/loss ([\d.]+), [\d,]+ tokens/s, \d+:\d\d:\d\d left")


def test_each_line_has_the_step_and_its_loss(tiny_rows, tiny_policy_dir, tmp_path, capsys):
    run = fit(tiny_rows, tiny_policy_dir, tmp_path, steps=4, accumulate=2, callbacks=[ProgressLines(0.0)])
    found = LINE.findall(capsys.readouterr().out)
    assert [int(step) for step, _ in found] == [1, 2, 3, 4]
    assert [float(loss) for _, loss in found] == pytest.approx(run.losses, abs=5e-5)


def test_a_line_has_the_loss_of_its_step_where_none_was_logged(tiny_rows, tiny_policy_dir, tmp_path, capsys):
    every = fit(tiny_rows, tiny_policy_dir, tmp_path / "every", steps=4)
    rarely = {"log_every_n_steps": 50}
    fit(tiny_rows, tiny_policy_dir, tmp_path / "rarely", steps=4, callbacks=[ProgressLines(0.0)], trainer=rarely)
    out = capsys.readouterr().out
    assert [float(loss) for _, loss in LINE.findall(out)] == pytest.approx(every.losses, abs=5e-5)


def test_lines_keep_their_distance(tiny_rows, tiny_policy_dir, tmp_path, capsys):
    fit(tiny_rows, tiny_policy_dir, tmp_path, steps=4, callbacks=[ProgressLines(3600.0)])
    assert not LINE.findall(capsys.readouterr().out)


def test_validations_print_theirs_the_one_before_training_too(tiny_rows, tiny_policy_dir, tmp_path, capsys):
    validates = {"limit_val_batches": 1, "num_sanity_val_steps": 1, "val_check_interval": 2}
    fit(tiny_rows, tiny_policy_dir, tmp_path, steps=4, callbacks=[ProgressLines()], trainer=validates)
    found = re.findall(r"^(before training|step \d): val/nll \d\.\d{4}$", capsys.readouterr().out, re.MULTILINE)
    assert found == ["before training", "step 2", "step 4"]


def test_a_terminal_gets_none(tiny_rows, tiny_policy_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    fit(tiny_rows, tiny_policy_dir, tmp_path, steps=2, callbacks=[ProgressLines(0.0)])
    assert not re.search(r"^step", capsys.readouterr().out, re.MULTILINE)


def test_a_time_below_0_is_refused():
    with pytest.raises(ConfigError, match=r"progress_lines\.every_seconds: got -1"):
        ProgressLines(-1.0)
