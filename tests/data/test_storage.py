"""Rows and columns on an object storage: a real S3 server on the loopback, and a storage that fails on request."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from remit_lit.cli.dispatch import main
from remit_lit.data import storage
from remit_lit.data.columns import column_directory, of_distributions
from remit_lit.data.file_cache import FileCache
from remit_lit.data.lab_documents import LabDocuments
from remit_lit.data.manifest import read_manifest
from remit_lit.data.rows import open_rows
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.storage import local_copy, located
from remit_lit.errors import ConfigError, DataError
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import CachedReference
from remit_lit.reference.score import score
from remit_lit.reference.subsets import read_subset, select
from remit_lit.training.datamodule import PackedData
from remit_lit.weighting import MiniPLM, ReMiT
from tests.helpers import fit


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REMIT_LIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_WAITS", (0.0, 0.0))


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket of a server of its own."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }.items():
            environment.setenv(name, value)
        located("s3://bucket").fs.mkdir("bucket")  # type: ignore[attr-defined]
        yield "s3://bucket"
    server.stop()


def upload(rows: Path, url: str) -> str:
    where = located(url)
    where.fs.put(f"{rows}/", where.path, recursive=True)  # type: ignore[attr-defined]
    return url


@pytest.fixture
def on_s3(s3: str, rows: Path, request: pytest.FixtureRequest) -> str:
    """A copy of ``rows`` in the bucket."""
    return upload(rows, f"{s3}/{abs(hash(request.node.nodeid))}")


@pytest.fixture
def in_memory(rows: Path) -> Iterator[str]:
    """A copy of ``rows`` on a storage of this process."""
    yield upload(rows, "memory://bucket/rows")
    MemoryFileSystem.store.clear()


def test_a_run_on_s3_trains_as_on_a_disk(
    on_s3: str, rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    """Column, rows and validation."""
    options: dict[str, Any] = {"weighting": ReMiT(), "trainer": {"limit_val_batches": 1}}
    runs = []
    for place in (str(rows), on_s3):
        score(place, ModelSpec(str(tiny_reference_dir)), "nll_rl")
        reference = CachedReference("nll_rl")
        runs.append(fit(place, tiny_policy_dir, tmp_path / "run", reference=reference, **options))
    on_disk, remote = runs
    assert remote.losses == on_disk.losses
    for name, value in on_disk.parameters.items():
        assert torch.equal(remote.parameters[name], value)


def test_score_on_s3_writes_the_bytes_that_it_writes_on_a_disk(
    on_s3: str, rows: Path, tiny_reference_dir: Path
) -> None:
    for place in (str(rows), on_s3):
        score(place, ModelSpec(str(tiny_reference_dir)), "nll", rows_per_shard=8, top_k=2, top_k_column="top")
    for name in ("nll", of_distributions("top")):
        ours, theirs = (column_directory(place, "train", name) for place in (rows, on_s3))
        names = sorted(path.name for path in ours.iterdir())
        assert names == sorted(path.name for path in theirs.iterdir()) and len(names) > 2
        assert all((ours / each).read_bytes() == (theirs / each).read_bytes() for each in names)


def test_score_on_s3_goes_on_with_what_is_missing(
    on_s3: str, tiny_reference_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = ModelSpec(str(tiny_reference_dir))
    shard = score(on_s3, spec, "nll", rows_per_shard=8) / "shard-00001.npy"
    before, size = shard.read_bytes(), read_manifest(on_s3).sequence_length * 8
    shard.unlink()
    capsys.readouterr()
    score(on_s3, spec, "nll", rows_per_shard=8)
    assert f"scored {size:,} tokens" in capsys.readouterr().out and shard.read_bytes() == before


def test_worker_processes_read_from_s3(on_s3: str, rows: Path) -> None:
    def batches(place: str) -> list[torch.Tensor]:
        data = PackedData(place, 2, num_workers=1)
        return [batch.input_ids for batch in data._loader(data.load_rows("validation", []), batch_size=2)]

    for ours, theirs in zip(batches(str(rows)), batches(on_s3), strict=True):
        assert torch.equal(ours, theirs)


def test_a_subset_is_read_from_s3(on_s3: str, rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path) -> None:
    for name, model in (("base", tiny_policy_dir), ("rl", tiny_reference_dir)):
        score(str(rows), ModelSpec(str(model)), name)
    select(str(rows), "base", "rl", "half", MiniPLM(keep=0.5))
    upload(rows, on_s3)
    found, expected = (read_subset(place, "train", "half", MiniPLM(keep=0.5)) for place in (on_s3, rows))
    assert (found == expected).all()
    with pytest.raises(ConfigError, match=r"no subset 'hald' \(these rows have \['half'\]\); did you mean half"):
        read_subset(on_s3, "train", "hald", MiniPLM())


def test_a_column_that_is_not_there_is_named_with_those_that_are(on_s3: str, tiny_reference_dir: Path) -> None:
    score(on_s3, ModelSpec(str(tiny_reference_dir)), "nll_rl")
    with pytest.raises(ConfigError, match=r"'nll_rk' \(these rows have \['nll_rl'\]\); did you mean nll_rl"):
        open_rows(on_s3, "train", ["nll_rk"], True)


def test_a_url_with_one_slash_is_asked_about() -> None:
    with pytest.raises(ConfigError, match=r"rows: s3:/bucket/rows holds no rows; did you mean s3://bucket/rows\? "):
        read_manifest("s3:/bucket/rows")


@pytest.mark.fault("rows at a URL where there are none", "refused by name")
def test_rows_that_are_not_there_are_named(s3: str) -> None:
    with pytest.raises(ConfigError, match=r"rows: s3://bucket/none holds no rows"):
        read_manifest(f"{s3}/none")
    with pytest.raises(ConfigError, match=r"data\.rows: s3://nobody/none does not exist"):
        PackedData("s3://nobody/none", 1)


@pytest.mark.fault("an object of rows with a flipped bit", "the row is named before training")
def test_a_flipped_bit_is_found(on_s3: str) -> None:
    shard = located(on_s3, "train", "data-00000.arrow")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    rows = open_rows(on_s3, "train", [], True)
    with pytest.raises(DataError, match=r"rows: (row \d+ of )?s3://\S+ (differs from its checksum|is damaged)"):
        [rows[index] for index in range(len(rows))]


@pytest.mark.fault("an object of a column with a flipped bit", "refused by name; `score` replaces it")
def test_a_flipped_bit_in_a_column_is_found_and_mended(on_s3: str, tiny_reference_dir: Path) -> None:
    spec = ModelSpec(str(tiny_reference_dir))
    shard = score(on_s3, spec, "nll") / "shard-00000.npy"
    before = shard.read_bytes()
    shard.write_bytes(before[:-9] + bytes([before[-9] ^ 1]) + before[-8:])
    with pytest.raises(DataError, match=r"s3://\S+shard-00000\.npy is damaged \(its checksum differs\)"):
        open_rows(on_s3, "train", ["nll"], True)[0]
    score(on_s3, spec, "nll")
    assert shard.read_bytes() == before


@pytest.mark.fault("no credentials for an object storage", "refused, and where they are read from is said")
def test_missing_credentials_are_named(on_s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    storage_of(on_s3).clear_instance_cache()
    with pytest.raises(ConfigError, match=r"rows: s3://\S+ refuses access \(.*credentials.*AWS_ACCESS_KEY_ID"):
        read_manifest(on_s3)
    storage_of(on_s3).clear_instance_cache()


def storage_of(url: str) -> Any:
    return type(located(url).fs)  # type: ignore[attr-defined]


def failing(monkeypatch: pytest.MonkeyPatch, times: int, how: Callable[[str], None]) -> list[str]:
    """Let the first reads of the storage of this process fail; the paths of all reads."""
    reads: list[str] = []
    get_file = MemoryFileSystem.get_file

    def get(self: MemoryFileSystem, path: str, local: str, **options: Any) -> None:
        reads.append(path)
        get_file(self, path, local, **options)
        if len(reads) <= times:
            how(local)

    monkeypatch.setattr(MemoryFileSystem, "get_file", get)
    return reads


def throttle(_: str) -> None:
    raise OSError("SlowDown: reduce your request rate")


def give_half(local: str) -> None:
    os.truncate(local, Path(local).stat().st_size // 2)


@pytest.mark.parametrize("how", [throttle, give_half])
@pytest.mark.fault("an object storage that throttles, or gives half an object", "asked again, with a warning")
def test_what_fails_for_a_while_is_asked_again(
    how: Callable[[str], None], in_memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_manifest(in_memory)
    shutil.rmtree(os.environ["REMIT_LIT_CACHE"])
    reads = failing(monkeypatch, 2, how)
    with pytest.warns(UserWarning, match=r"rows: memory://bucket/rows/manifest\.json: .*; trying again in 0\.0 s"):
        assert read_manifest(in_memory) == expected
    assert len(reads) == 3


@pytest.mark.filterwarnings("ignore:rows")
@pytest.mark.parametrize("how", [throttle, give_half])
@pytest.mark.fault("an object storage that goes on failing", "the run ends by name, and no half file is kept")
def test_what_goes_on_failing_ends_with_a_message(
    how: Callable[[str], None], in_memory: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, 99, how)
    with pytest.raises(DataError, match=r"manifest\.json gave no answer in 3 attempts"):
        read_manifest(in_memory)
    assert not [path for path in cache.iterdir() if path.suffix != ".lock"]


def test_an_object_is_fetched_once_and_again_when_it_changed(in_memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = failing(monkeypatch, 0, throttle)
    manifest = located(in_memory, "manifest.json")
    first = local_copy(manifest)
    assert local_copy(manifest) == first and len(reads) == 1
    manifest.write_bytes(b"{}")
    assert local_copy(manifest).read_bytes() == b"{}" and len(reads) == 2


def test_the_cache_keeps_its_bound_by_removing_what_was_used_least(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "copies", max_bytes=250)
    long_ago = time.time() - 3600

    def copy(name: str, age: float | None = 0.0, size: int = 100) -> None:
        def fetch(aside: Path) -> None:
            aside.write_bytes(bytes(size))

        path = cache.copy(name, size, fetch)
        if age is not None:
            os.utime(path, (long_ago - age,) * 2)

    def names() -> set[str]:
        return {path.name for path in cache.folder.iterdir() if not path.name.startswith(".")}

    copy("a", age=3)
    copy("b", age=2)
    copy("a", age=1)
    copy("c")
    assert names() == {"a", "c"}
    copy("d", age=None)
    assert names() == {"c", "d"}
    copy("e", age=None, size=200)
    assert names() == {"d", "e"}, "d was asked for a moment ago"


@pytest.mark.fault("a local cache that cannot be written", "refused by name")
def test_a_folder_that_cannot_be_written_is_named(
    in_memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REMIT_LIT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ConfigError, match=r"REMIT_LIT_CACHE: \S+cache cannot be written \(Not a directory\)"):
        read_manifest(in_memory)


@pytest.mark.fault("a full disk below the local cache", "ends by name, and nothing half copied is kept")
def test_a_full_disk_is_named(in_memory: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: str) -> None:
        raise OSError(28, "No space left on device")

    failing(monkeypatch, 1, full)
    with pytest.raises(DataError, match=r"REMIT_LIT_CACHE: cannot copy \S+manifest\.json to .*: no space left"):
        read_manifest(in_memory)
    assert not [path for path in cache.iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize("value", ["0", "many", "-1", "inf", "nan"])
def test_a_bound_that_is_none_is_refused(value: str, monkeypatch: pytest.MonkeyPatch, in_memory: str) -> None:
    monkeypatch.setenv("REMIT_LIT_CACHE_GB", value)
    with pytest.raises(ConfigError, match=rf"REMIT_LIT_CACHE_GB: got '{value}'; give a number of gigabytes above 0"):
        read_manifest(in_memory)


def test_a_cache_that_is_too_small_for_the_rows_is_warned_of(in_memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMIT_LIT_CACHE_GB", "1e-6")
    with pytest.warns(UserWarning, match=r"most batches will fetch files again; raise REMIT_LIT_CACHE_GB"):
        open_rows(in_memory, "train", [], True)


def test_a_url_that_nothing_reads_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match=r"rows: nowhere://bucket cannot be read .*pip install 'remit_lit\[s3\]'"):
        read_manifest("nowhere://bucket")


def test_what_writes_to_a_disk_only_says_so(in_memory: str, tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"rows: memory://\S+ is a URL, and this writes to a disk only; choose on a disk"
    ):
        select(in_memory, "base", "rl", "half")
    with pytest.raises(ConfigError, match=r"rows: memory://\S+ is a URL.*leave output out"):
        score(in_memory, ModelSpec("x"), "nll", output=str(tmp_path / "scored"))
    settings = PrepareSettings(str(tiny_tokenizer_dir), {"web": LabDocuments("web", 1)}, 8)
    with pytest.raises(ConfigError, match=r"data\.rows: memory://bucket/new is a URL.*prepare rows on a disk"):
        PackedData("memory://bucket/new", 1, settings)


def test_prepare_refuses_a_url(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "prepare.yaml"
    config.write_text(
        "tokenizer: lab\nsequence_length: 8\nsources:\n  web: {class_path: JsonLines, init_args: {files: x.jsonl}}\n"
    )
    with pytest.raises(SystemExit) as ended:
        main(["prepare", f"--config={config}", "--output=s3://bucket/new"])
    assert ended.value.code == 2
    assert "output: s3://bucket/new is a URL, and this writes to a disk only" in capsys.readouterr().err
