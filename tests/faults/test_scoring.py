"""`score` that is killed, runs out of disk, shares a directory, or finds its shards damaged."""

import os
import re
import shutil
import time
from collections import namedtuple
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import remit_lit.files
import remit_lit.reference.passes as scoring_module
from remit_lit.data.columns import ScoreColumn, column_directory, shard_path, write_shard, writing
from remit_lit.errors import ConfigError, DataError, NonFiniteError
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.score import score
from tests.columns import shards_of, stored
from tests.helpers import TIME, save_model
from tests.processes import ROOT, SECONDS, kill
from tests.warm import WarmProcess


@pytest.fixture(scope="module")
def deep_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes long enough for a process to be killed while it scores."""
    return save_model(tmp_path_factory.mktemp("deep"), seed=4, num_hidden_layers=24)


def start_scoring(rows: Path, model: Path, devices: int, printed: Path) -> WarmProcess:
    """A real `score` of one row a shard into the columns `cut` and `said`, in a process group of its own."""
    named = {"column": "cut", "entropy_column": "said"}
    fields = {"rows": rows, "model.path": model, **named, "rows_per_shard": 1, "batch_tokens": TIME}
    command = ["score", *(f"--{name}={value}" for name, value in fields.items())]
    return WarmProcess([*command, f"--devices={devices}", "--accelerator=cpu"], printed, {"PYTHONPATH": str(ROOT)})


def kill_after(process: WarmProcess, directory: Path, shards: int, printed: Path) -> dict[str, int]:
    """Send SIGKILL to the whole group as soon as so many shards are there; when each of those was written, in ns."""
    while process.poll() is None and len(list(directory.glob("shard-*.npy"))) < shards:
        time.sleep(0.001)
    assert process.poll() is None, printed.read_text()
    kill(process)
    return {path.name: path.stat().st_mtime_ns for path in directory.glob("shard-*.npy")}


@pytest.mark.parametrize(
    ("devices", "kills"),
    [(1, [1, 25]), (2, [10]), pytest.param(2, [0, 1, 5, 20, 40], marks=pytest.mark.slow)],
    ids=["1-process", "2-processes", "2-processes-often"],
)
@pytest.mark.fault("kill -9 of `score`", "finished shards are kept, and the column ends with the same bytes")
def test_scoring_goes_on_after_kill_minus_nine(
    devices: int, kills: list[int], rows: Path, deep_model_dir: Path, tmp_path: Path
) -> None:
    directory = column_directory(rows, "train", "cut")
    kept: dict[str, int] = {}
    printed = tmp_path / "printed.txt"
    for shards in kills:
        process = start_scoring(rows, deep_model_dir, devices, printed)
        there = kill_after(process, directory, shards, printed)
        assert kept.items() <= there.items(), "a finished shard was written again"
        kept = there
    spec, options = ModelSpec(str(deep_model_dir)), {"rows_per_shard": 1, "batch_tokens": TIME}
    score(str(rows), spec, "whole", entropy_column="whole_said", **options)  # type: ignore[arg-type]
    assert shards <= len(kept) < len(shards_of(rows, "whole")) - 1
    with pytest.raises(ConfigError, match=r"'cut': not complete, shard-\d+\.npy is missing"):
        ScoreColumn(directory)
    score(str(rows), spec, "cut", entropy_column="said", **options)  # type: ignore[arg-type]
    assert shards_of(rows, "cut") == shards_of(rows, "whole")
    assert shards_of(rows, "said") == shards_of(rows, "whole_said")
    assert kept.items() <= {path.name: path.stat().st_mtime_ns for path in directory.glob("*.npy")}.items()


def test_what_a_killed_process_left_half_written_is_removed(rows: Path, tiny_reference_dir: Path) -> None:
    spec = ModelSpec(str(tiny_reference_dir))
    directory = score(str(rows), spec, "nll", rows_per_shard=8)
    before = shards_of(rows, "nll")
    whole = shard_path(directory, 3)
    whole.with_name(f".{whole.name}.12345").write_bytes(whole.read_bytes()[:500])
    whole.unlink()
    score(str(rows), spec, "nll", rows_per_shard=8)
    assert shards_of(rows, "nll") == before


@pytest.mark.fault("two `score` processes on one column", "the second is refused, exit code 2")
def test_a_second_process_on_one_column_is_refused(rows: Path, deep_model_dir: Path, tmp_path: Path) -> None:
    directory, printed = column_directory(rows, "train", "cut"), tmp_path / "printed.txt"
    with writing(directory):
        assert start_scoring(rows, deep_model_dir, 1, printed).wait(SECONDS) == 2
    error = printed.read_text()
    assert "Traceback" not in error
    assert f"error: column: {directory} is being written by process {os.getpid()} on " in error
    assert not list(directory.iterdir())
    score(str(rows), ModelSpec(str(deep_model_dir)), "cut")
    assert np.isfinite(stored(rows, "cut")).all()


def test_a_column_that_was_begun_and_holds_nothing_is_finished(rows: Path, tiny_reference_dir: Path) -> None:
    column_directory(rows, "train", "nll").mkdir(parents=True)
    score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll")
    assert np.isfinite(stored(rows, "nll")).all()


@pytest.mark.fault("a damaged or missing shard of a column", "`score` makes it again, and it alone")
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "empty"])
@pytest.mark.parametrize("index", [0, 4, 6])
def test_a_damaged_shard_alone_is_scored_again(damage: str, index: int, rows: Path, tiny_reference_dir: Path) -> None:
    spec = ModelSpec(str(tiny_reference_dir))
    directory = score(str(rows), spec, "nll", rows_per_shard=8)
    before, path = shards_of(rows, "nll"), shard_path(directory, index)
    times = {other: other.stat().st_mtime_ns for other in directory.glob("*.npy") if other != path}
    content = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        content[-30] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(content[: {"truncated": -10, "empty": 0}[damage]])
    score(str(rows), spec, "nll", rows_per_shard=8)
    assert shards_of(rows, "nll") == before
    assert times == {other: other.stat().st_mtime_ns for other in times}


@pytest.mark.usefixtures("no_weights")
def test_a_disk_with_too_little_room_is_refused_before_any_weights_are_loaded(
    rows: Path, tiny_reference_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10_000, 10_000))
    with pytest.raises(ConfigError, match=r"column: .*nll needs 0\.\d\d MB, but its disk has 0\.01 MB free.*float16"):
        score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll", dtype="float32")
    assert re.search(r"column nll: \d+ rows x 132 tokens in float32, 0\.\d\d MB to write", capsys.readouterr().out)


@pytest.mark.fault("a disk that fills up during `score`", "finished shards are kept, and the column can be finished")
def test_a_disk_that_fills_up_keeps_the_finished_shards(
    rows: Path, tiny_reference_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ModelSpec(str(tiny_reference_dir))
    score(str(rows), spec, "whole", rows_per_shard=8)
    write = write_shard

    def write_to_full_disk(directory: Path, index: int, values: np.ndarray) -> None:
        if index == 3:  # the kernel itself refuses: what is written here goes to a device without room
            full = directory / ".full"
            full.symlink_to("/dev/full")
            patch.setattr(remit_lit.files, "_aside", lambda path: full)
        write(directory, index, values)

    with monkeypatch.context() as patch:
        patch.setattr(scoring_module, "write_shard", write_to_full_disk)
        with pytest.raises(
            DataError, match=r"'cut': cannot write shard-00003\.npy: no space left.*finished shards are kept"
        ):
            score(str(rows), spec, "cut", rows_per_shard=8)
    kept = shards_of(rows, "cut")
    assert sorted(kept) == ["column.json", "shard-00000.npy", "shard-00001.npy", "shard-00002.npy"]
    score(str(rows), spec, "cut", rows_per_shard=8)
    assert shards_of(rows, "cut") == shards_of(rows, "whole")


@pytest.mark.fault("a model that gives NaN or infinity during `score`", "the row is named, finished shards are kept")
def test_a_model_that_breaks_midway_keeps_the_finished_shards(rows: Path, tmp_path: Path) -> None:
    tokens = np.array(datasets.load_from_disk(str(rows / "train"))["input_ids"])  # [rows, time]
    first_row = {token: int((tokens == token).any(axis=1).argmax()) for token in np.unique(tokens).tolist()}
    token, first = max(first_row.items(), key=lambda item: item[1])
    assert first > 0
    broken = save_model(tmp_path / "model", 3, tie_word_embeddings=False)
    weights = load_file(broken / "model.safetensors")
    weights["model.embed_tokens.weight"][token] = torch.inf
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(NonFiniteError, match=rf"NaN or infinite NLL in 1 row\(s\), the first \[{first}\]"):
        score(str(rows), ModelSpec(str(broken)), "nll", rows_per_shard=1, batch_tokens=TIME)
    assert len(shards_of(rows, "nll")) == 1 + first
