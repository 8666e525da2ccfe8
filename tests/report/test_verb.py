"""`report` from a command line."""

from pathlib import Path

import pytest

from remit_lit.cli.dispatch import main
from tests.inspection.reading import read_page
from tests.processes import documented_commands
from tests.report.made import made_run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run without a config, of which nothing but its log is read."""
    monkeypatch.chdir(tmp_path)
    for name in ("run", "other"):
        made_run(Path(name), {"train/loss": [(1, 2.0), (2, 1.0)]})
        Path(name, "config.yaml").unlink()
    return Path("run")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["report", *arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_the_page_of_one_run_lies_in_its_folder_and_is_replaced(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        main(["report", str(run)])
        assert capsys.readouterr().out == "report: run/report.html\n"
    assert [one["name"] for one in read_page(run / "report.html").data["runs"]] == ["run"]
    assert sorted(path.name for path in run.iterdir()) == ["metrics.csv", "report.html", "run.json"]


def test_the_page_of_several_lies_here_and_replaces_nothing_unasked(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["report", "run", "other"])
    assert [one["name"] for one in read_page(Path("report.html")).data["runs"]] == ["run", "other"]
    assert "output: report.html exists; give another file, or --overwrite=true" in refused(capsys, "run", "other")
    main(["report", "other", "run", "--overwrite=true"])
    assert [one["name"] for one in read_page(Path("report.html")).data["runs"]] == ["other", "run"]
    main(["report", "run", "--output=made/page.html"])
    assert Path("made/page.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "runs: got none; give the folder of a run"),
        (["nowhere"], "runs: there is no folder nowhere"),
        (["."], "is no folder of a run"),
        (["run", "--output=other"], "output: other is a directory; give a file, such as other/report.html"),
        (["run", "--outptu=x"], "outptu: report has no field 'outptu'; did you mean output?"),
    ],
)
def test_mistakes_are_refused(
    arguments: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, *arguments)
    assert not Path("report.html").exists() and not (run / "report.html").exists()


@pytest.mark.parametrize("command", documented_commands("report"), ids=" ".join)
def test_documented_commands_are_read(command: list[str], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "runs: there is no folder runs/quickstart" in refused(capsys, *command[1:])
