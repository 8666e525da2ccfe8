"""The guide's example of what a column of most likely tokens loses prints what the guide shows."""

import re

import pytest

from tests.processes import ROOT

GUIDE = (ROOT / "docs" / "guides" / "annealing.md").read_text()


def test_what_the_guide_says_of_k_tokens_is_what_its_example_prints(capsys: pytest.CaptureFixture[str]) -> None:
    found = re.search(r"^```python title=\"lost.py\"\n(.*?)^```\n+```text\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert found is not None
    capsys.readouterr()
    exec(compile(found[1], "lost.py", "exec"), {})
    printed, shown = ([line.split() for line in text.splitlines()] for text in (capsys.readouterr().out, found[2]))
    assert [line[0] for line in printed] == [line[0] for line in shown] == ["1", "2", "4", "8", "16", "31"]
    for ours, theirs in zip(printed, shown, strict=True):
        assert [float(ours[4]), float(ours[6])] == pytest.approx([float(theirs[4]), float(theirs[6])], abs=2e-4)
