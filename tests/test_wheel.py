"""What a user of the package index gets: a wheel in a fresh environment, outside the repository."""

import os
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.warm import ForkedProcess, forget

SECONDS = 900
FEW_DOCUMENTS = """
data:
  prepare:
    sources:
      web: {class_path: LabDocuments, init_args: {kind: web, documents: 400}}
    validation:
      web: {class_path: LabDocuments, init_args: {kind: web, documents: 40, split: dev}}
"""


def run(*command: str | Path, cwd: Path) -> str:
    # Without PYTHONPATH: only what is installed counts.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", output, cwd=ROOT)
    (path,) = output.glob("*.whl")
    return path


def train_with_a_shipped_baseline(remit_lit: Callable[..., str], place: Path, *more: str) -> None:
    """The quickstart for some steps with a baseline, both by their names."""
    assert "baselines/rho1.yaml" in remit_lit("configs")
    short = ("--model.horizon.steps=4", "--model.schedule.init_args.warmup_steps=1", "--trainer.limit_val_batches=1")
    callbacks = "--trainer.callbacks=[]"
    configs = ("--config=quickstart", "--config", "baselines/rho1", *more)
    printed = remit_lit("fit", *configs, *short, callbacks)
    assert "Rho1 on LlamaForCausalLM of 61,680 parameters: 4 steps" in printed
    (folder,) = (place / "runs").glob("quickstart-rho1*")
    assert (folder / "model" / "model.safetensors").exists()


def run_installed(installed: Path, arguments: list[str]) -> None:
    """The command line of what is installed in a folder, with the libraries that are there already."""
    forget("remit_lit")
    sys.path = [str(installed), *(path for path in sys.path if path not in ("", str(ROOT)))]
    sys.argv[1:] = arguments
    where = runpy.run_module("remit_lit", run_name="__main__", alter_sys=True)["__file__"]
    assert Path(where).is_relative_to(installed)


def test_a_wheel_has_all_that_the_quickstart_reads(wheel: Path, tmp_path: Path) -> None:
    """With the libraries of this environment, and nothing of the repository."""
    installed, place = tmp_path / "installed", tmp_path / "elsewhere"
    options = ("--quiet", "--no-deps", "--no-compile", "--target", installed)
    run(sys.executable, "-m", "pip", "install", *options, wheel, cwd=tmp_path)
    place.mkdir()

    def remit_lit(*arguments: str) -> str:
        printed = tmp_path / "printed.txt"
        assert ForkedProcess(run_installed, [installed, list(arguments)], printed, cwd=place).wait(SECONDS) == 0, (
            printed.read_text()
        )
        return printed.read_text()

    (place / "few.yaml").write_text(FEW_DOCUMENTS)
    train_with_a_shipped_baseline(remit_lit, place, "--config=few.yaml")


def test_a_wheel_has_what_pages_are_made_of(wheel: Path) -> None:
    folders = [ROOT / "remit_lit" / name for name in ("pages/shared", "inspection/page", "report/page", "tables/page")]
    assets = [path for folder in folders for path in folder.iterdir() if path.is_file()]
    assert {path.suffix for path in assets} == {".html", ".css", ".js"}
    with zipfile.ZipFile(wheel) as content:
        for path in assets:
            assert content.read(path.relative_to(ROOT).as_posix()) == path.read_bytes()


@pytest.mark.slow
def test_a_wheel_trains_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    binaries, place = tmp_path / "venv" / "bin", tmp_path / "elsewhere"
    constraints = ("--constraint", ROOT / "constraints.txt")
    run(binaries / "python", "-m", "pip", "install", "--quiet", *constraints, wheel, cwd=tmp_path)
    place.mkdir()
    train_with_a_shipped_baseline(partial(run, binaries / "remit_lit", cwd=place), place)
