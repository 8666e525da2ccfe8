"""A preparation that is killed leaves its tokenised shards to the next one, and to that of the same rows only."""

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from remit_lit.cli.dispatch import main
from remit_lit.data.datatrove_reader import DatatroveReader
from remit_lit.data.prepare import prepare
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import HuggingFaceDataset, JsonLines, PlainText, Source
from remit_lit.data.tokenizing import Tokenizing
from remit_lit.models.tokenization import load_tokenizer
from tests.data.logged import Logged, readings
from tests.data.texts import digest
from tests.processes import kill
from tests.warm import ForkedProcess

HELD = "6"


@pytest.fixture
def settings(byte_tokenizer_dir: Path, tmp_path: Path) -> PrepareSettings:
    """Of a preparation that reads the shards in order and waits in one of the last."""
    (tmp_path / "text.source").write_text("a")
    (tmp_path / f"hold-{HELD}").touch()
    source = Logged(str(tmp_path))
    return PrepareSettings(str(byte_tokenizer_dir), {"web": source}, sequence_length=32, validation_share=0.1)


def prepare_rows(output: Path, settings: PrepareSettings) -> None:
    prepare(output, settings)


def killed(settings: PrepareSettings, directory: Path) -> list[str]:
    """The shards that a run had read before it was killed, which it was while it read :data:`HELD`."""
    process = ForkedProcess(prepare_rows, [directory / "out" / "rows", settings], directory / "printed.txt")
    end = time.monotonic() + 120
    while HELD not in dict(readings(directory)):
        assert process.poll() is None and time.monotonic() < end, (directory / "printed.txt").read_text()
        time.sleep(0.02)
    kill(process)
    assert not (directory / "out" / "rows").exists() and any((directory / "out").iterdir())
    (directory / f"hold-{HELD}").unlink()
    read = [shard for shard, _ in readings(directory)]
    (directory / "readings").unlink()
    return [shard for shard in read if shard != HELD]


def again(settings: PrepareSettings, directory: Path, **options: Any) -> list[str]:
    """The shards that the next run reads. Its rows are those of a run that nothing disturbed, and nothing is left."""
    rows = prepare(directory / "out" / "rows", replace(settings, **options))
    read = [shard for shard, _ in readings(directory)]
    assert [path.name for path in rows.parent.iterdir()] == ["rows"]
    assert digest(rows) == digest(prepare(directory / "undisturbed", replace(settings, **options)))
    return read


@pytest.mark.fault("kill -9 of `prepare` (shards)", "the next one reads those shards only that were not read whole")
@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"draw": "shards"}, {"draw": "shards", "num_workers": 2}])
def test_whole_shards_are_not_read_again(options: dict[str, Any], settings: PrepareSettings, tmp_path: Path) -> None:
    settings = replace(settings, **options)
    done = killed(settings, tmp_path)
    assert len(done) > 1
    begun = 1 if settings.num_workers > 1 else 0  # the other worker may have been in the midst of one
    read = Counter(again(settings, tmp_path))
    assert set(read.values()) == {1}
    missed = {str(shard) for shard in range(8)} - set(done)
    assert missed <= set(read) and len(set(read) - missed) <= begun


def test_the_number_of_workers_may_be_another(settings: PrepareSettings, tmp_path: Path) -> None:
    done = killed(settings, tmp_path)
    assert not set(again(settings, tmp_path, num_workers=2)) & set(done)


def test_other_settings_begin_anew(settings: PrepareSettings, tmp_path: Path) -> None:
    done = killed(settings, tmp_path)
    assert set(done) < set(again(settings, tmp_path, seed=1))


@pytest.mark.fault("a file that changes between `prepare` and the next one that goes on", "its shards are read anew")
def test_files_that_changed_are_read_anew(settings: PrepareSettings, tmp_path: Path) -> None:
    done = killed(settings, tmp_path)
    (tmp_path / "text.source").write_text("changed")
    assert set(done) < set(again(settings, tmp_path))


@pytest.mark.parametrize(
    "source",
    [
        lambda place: JsonLines(f"{place}/*.jsonl"),
        lambda place: PlainText(f"{place}/*.jsonl", document="line"),
        lambda place: HuggingFaceDataset(str(place)),
        lambda place: DatatroveReader("datatrove.pipeline.readers.JsonlReader", {"data_folder": str(place)}),
    ],
    ids=["JsonLines", "PlainText", "HuggingFaceDataset", "DatatroveReader"],
)
def test_a_changed_file_of_each_source_is_another_job(
    source: Callable[[Path], Source], byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "texts" / "a.jsonl"
    file.parent.mkdir()
    tokenizer = load_tokenizer(str(byte_tokenizer_dir))
    found = []
    for text in ("a text", "a text", "another one"):
        if not file.exists() or text not in file.read_text():
            file.write_text(json.dumps({"text": text}) + "\n")
        found.append(Tokenizing.of({"web": source(file.parent)}, tokenizer, tmp_path).identity())
    assert found[0] == found[1] != found[2]


@pytest.mark.fault("a damaged file of tokens of a `prepare` that goes on", "its shard is read again")
@pytest.mark.parametrize("suffix", ["-0", "-0.lengths", ".shard.npz"])
@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_a_damaged_shard_is_read_again(suffix: str, damage: str, settings: PrepareSettings, tmp_path: Path) -> None:
    done = killed(settings, tmp_path)
    (file,) = (tmp_path / "out").glob(f".rows.*/tokens/0-{done[1]}-0{suffix}")
    if damage == "cut":
        os.truncate(file, file.stat().st_size // 2)
    else:
        file.unlink()
    read = again(settings, tmp_path)
    assert done[1] in read and not {shard for shard in done if shard != done[1]} & set(read)


def test_a_run_goes_on_from_one_of_another_machine_and_leaves_other_outputs_alone(
    settings: PrepareSettings, tmp_path: Path
) -> None:
    done = killed(settings, tmp_path)
    (scratch,) = (tmp_path / "out").glob(".rows.*")
    scratch.rename(scratch.with_name(".rows.node17.4711.0a1b2c3d"))
    other = scratch.with_name(".rows.v2.node17.4712.0a1b2c3d")
    other.mkdir()
    (other / "recipe.json").write_text('{"of": "rows.v2"}')
    source = {"class_path": "tests.data.logged.Logged", "init_args": {"directory": str(tmp_path)}}
    arguments = [f"--tokenizer={settings.tokenizer}", f"--sources={json.dumps({'web': source})}"]
    main(["prepare", *arguments, "--sequence_length=32", "--validation_share=0.1", f"--output={tmp_path}/out/rows"])
    assert not {shard for shard, _ in readings(tmp_path)} & set(done)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [other.name, "rows"]


def test_without_a_lock_what_another_machine_writes_is_left_alone(settings: PrepareSettings, tmp_path: Path) -> None:
    """As two jobs of a table on two nodes do, which make the same rows at once."""
    done = killed(settings, tmp_path)
    (scratch,) = (tmp_path / "out").glob(".rows.*")
    written = scratch.rename(scratch.with_name(".rows.node17.4711.0a1b2c3d"))
    held = digest(written)
    prepare(tmp_path / "out" / "rows", settings)
    assert set(done) < {shard for shard, _ in readings(tmp_path)}
    assert digest(written) == held
