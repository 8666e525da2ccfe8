import sys

import pytest

from remit_lit.runs.provenance import provenance


@pytest.mark.parametrize(
    ("argv", "typed"),
    [
        (["/somewhere/remit_lit/__main__.py", "fit", "--config=a.yaml"], ["python", "-m", "remit_lit", "fit"]),
        (["/somewhere/bin/remit_lit", "fit", "--config=a.yaml"], ["remit_lit", "fit"]),
    ],
)
def test_the_command_is_as_it_was_typed(argv: list[str], typed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert provenance(())["command"] == [*typed, "--config=a.yaml"]
