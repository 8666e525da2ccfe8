"""What `inspect` reads from a command line, and what it refuses, before any model is loaded."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.cli.dispatch import main
from tests.processes import documented_commands

Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    def message(*arguments: str) -> str:
        with pytest.raises(SystemExit) as raised:
            main(["inspect", *arguments])
        assert raised.value.code == 2
        return capsys.readouterr().err

    return message


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num_rows=1000"], "num_rows: got 1000 from first_row 0 on, but there are"),
        (["--num_rows=0"], "num_rows: got 0; give at least 1"),
        (["--first_row=-1"], "first_row: got -1; give at least 0"),
        (["--split=test"], "split"),
        (["--strategies=[]"], "strategies: got none"),
        (["--strategies=[baselines/remit]"], "model.reference: ReMiT compares with a reference, but got none"),
        (["--strategies=[baselines/remitt]"], "strategies: no file 'baselines/remitt'"),
        (["--strategies=[baselines/ntp,baselines/ntp]"], "strategies: baselines/ntp is named twice"),
        (["--model.reference=CachedReference", "--model.reference.column=nll_x"], "no score column 'nll_x'"),
        (["--policies=[no/such/place]"], "policies.0.path: 'no/such/place' is neither a directory nor a hub id"),
        (["--policies=[{policy}]"], "policies.0: {policy} is there already"),
        (["--policies=[/nowhere/checkpoints/step-00000001]"], "policies.0: no checkpoint"),
        (["--data.rows=/nowhere"], "data.rows: /nowhere does not exist"),
        (["--trainer.precision=16-mixed"], "trainer.precision: got 16-mixed"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_a_model_is_loaded(
    arguments: Sequence[str],
    message: str,
    tiny_rows: Path,
    tiny_policy_dir: Path,
    tmp_path: Path,
    refused: Refused,
) -> None:
    page = tmp_path / "page.html"
    given = [f"--data.rows={tiny_rows}", f"--model.policy.path={tiny_policy_dir}", f"--output={page}", *arguments]
    given = [argument.replace("{policy}", str(tiny_policy_dir)) for argument in given]
    message = message.replace("{policy}", str(tiny_policy_dir))
    assert message in refused(*given)
    assert not page.exists()


def test_policies_of_another_vocabulary_are_refused(
    tiny_rows: Path, tiny_policy_dir: Path, byte_tokenizer_dir: Path, tmp_path: Path, no_weights: None, refused: Refused
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for source, names in (
        (tiny_policy_dir, ["config.json"]),
        (byte_tokenizer_dir, ["tokenizer.json", "tokenizer_config.json"]),
    ):
        for name in names:
            (other / name).write_bytes((source / name).read_bytes())
    given = [f"--data.rows={tiny_rows}", f"--model.policy.path={tiny_policy_dir}", f"--output={tmp_path / 'page.html'}"]
    assert "policies.0: its tokenizer" in refused(*given, f"--policies=[{other}]")


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("change", [{"data": {"seed": 3}}, {"model": {"policy": {"dtype": "bfloat16"}}}])
def test_overlays_of_other_rows_or_policies_are_refused(
    change: dict[str, Any], tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(change))
    given = [f"--data.rows={tiny_rows}", f"--model.policy.path={tiny_policy_dir}", f"--output={tmp_path / 'page.html'}"]
    message = refused(*given, f"--strategies=[{tmp_path / 'other.yaml'}]")
    assert "but strategies are compared on the same text" in message


@pytest.mark.usefixtures("no_weights")
def test_an_output_that_cannot_be_written_is_refused(
    tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path, refused: Refused
) -> None:
    given = [f"--data.rows={tiny_rows}", f"--model.policy.path={tiny_policy_dir}"]
    (tmp_path / "file").write_text("kept")
    assert "exists; give another file, or --overwrite=true" in refused(*given, f"--output={tmp_path / 'file'}")
    assert (tmp_path / "file").read_text() == "kept"
    assert "is a directory" in refused(*given, f"--output={tmp_path}", "--overwrite=true")
    assert "cannot be written" in refused(*given, f"--output={tmp_path / 'file' / 'page.html'}")


@pytest.mark.parametrize("command", documented_commands("inspect"), ids=" ".join)
def test_documented_commands_are_read(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([*command, "--print_config"])
    assert not raised.value.code
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["policy"]["path"] == "lab/base" and config["output"].endswith(".html")
