"""`prepare` that is killed."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.cli.dispatch import main
from tests.processes import ROOT, SECONDS, kill
from tests.warm import WarmProcess


@pytest.fixture(scope="module")
def config(tiny_tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = {"class_path": "LabDocuments", "init_args": {"kind": "web", "documents": 10_000}}
    settings: dict[str, Any] = {
        "tokenizer": str(tiny_tokenizer_dir),
        "sequence_length": 132,
        "sources": {"web": source},
    }
    path = tmp_path_factory.mktemp("config") / "rows.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows of an undisturbed preparation, alone in their folder."""
    rows = tmp_path_factory.mktemp("out") / "rows"
    main(["prepare", f"--config={config}", f"--output={rows}"])
    return rows


@pytest.mark.fault(
    "kill -9 of `prepare`", "no rows are left, and the same command makes the rows of an undisturbed one"
)
@pytest.mark.parametrize("moment", ["at-once", "midway"])
def test_preparation_that_is_killed_is_done_again(moment: str, config: Path, whole: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut" / "rows"
    command = ["prepare", f"--config={config}", f"--output={cut}"]
    process = WarmProcess(command, tmp_path / "printed.txt", {"PYTHONPATH": str(ROOT)})
    try:
        end = time.monotonic() + SECONDS
        while not cut.parent.exists() or (moment == "midway" and not any(cut.parent.rglob("*.arrow"))):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.001)
    finally:
        kill(process)
    assert process.returncode == -signal.SIGKILL
    assert not cut.exists()
    main(command)
    found, expected = (json.loads((rows / "manifest.json").read_text())["fingerprints"] for rows in (cut, whole))
    assert found == expected
    assert sorted(path.name for path in cut.parent.iterdir()) == sorted(path.name for path in whole.parent.iterdir())
