"""Configs that come with the package: found from any directory, listed, shown and copied."""

from pathlib import Path

import pytest

from remit_lit.cli import main
from remit_lit.configs import config_names, configs_root, find_config
from remit_lit.errors import ConfigError
from tests.processes import ROOT


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("quickstart", "experiments/quickstart.yaml"),
        ("baselines/rho1", "baselines/rho1.yaml"),
        ("experiments/quickstart.yaml", "experiments/quickstart.yaml"),
        ("tables/lab", "experiments/tables/lab.yaml"),
        ("scale/zero2.yaml", "experiments/scale/zero2.yaml"),
        ("experiments/posttrain/olmo2.jinja", "experiments/posttrain/olmo2.jinja"),
    ],
)
def test_a_shipped_config_is_found_from_any_directory(name: str, file: str, elsewhere: Path) -> None:
    assert Path(find_config("config", name)) == ROOT / file


def test_a_file_of_ones_own_comes_first(elsewhere: Path) -> None:
    (elsewhere / "quickstart").write_text("model: {}\n")
    assert find_config("config", "quickstart") == "quickstart"


@pytest.mark.parametrize(
    ("name", "near"),
    [("quickstrt", "experiments/quickstart.yaml"), ("baselines/rho", "baselines/rho1.yaml"), ("zero_2", "zero2.yaml")],
)
def test_a_mistyped_config_is_refused_with_what_comes_near(name: str, near: str, elsewhere: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^config: no file '{name}' from .*; did you mean .*{near}.*configs` lists"):
        find_config("config", name)


def test_every_yaml_of_the_repository_is_listed() -> None:
    on_disk = {
        path.relative_to(ROOT).as_posix() for d in ("experiments", "baselines") for path in (ROOT / d).rglob("*.yaml")
    }
    assert on_disk <= set(config_names())
    assert not any("results/" in name for name in config_names())


def test_configs_are_listed_shown_and_copied(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["configs"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in config_names())
    main(["configs", "--show=baselines/rho1"])
    assert (ROOT / "baselines/rho1.yaml").read_text().strip() in capsys.readouterr().out
    main(["configs", "--copy=mine"])
    for name in config_names():
        assert (elsewhere / "mine" / name).read_bytes() == (configs_root() / name).read_bytes()
    with pytest.raises(SystemExit):
        main(["configs", "--copy=mine"])
    assert "copy: mine/experiments exists" in capsys.readouterr().err


def test_a_verb_finds_its_config_from_any_directory(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--config", "quickstart", "--config=baselines/rho1", "--print_config"])
    shown = capsys.readouterr().out
    assert "remit_lit.weighting.Rho1" in shown and "lab/base" in shown
