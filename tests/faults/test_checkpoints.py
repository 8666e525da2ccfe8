"""Checkpoints that are damaged, cut short by a kill, or refused by the disk."""

import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import remit_lit.runs.checkpoint_io as files
from remit_lit.errors import ConfigError, DataError
from remit_lit.runs.checkpoint import LAST, all_checkpoints, aside_of, begin, newest, step_of, verify
from remit_lit.runs.checkpoint_io import TRAINER, CheckpointFiles
from remit_lit.runs.weights import WEIGHTS, read_weights, write_weights
from remit_lit.training.callbacks.checkpoints import Checkpoints
from tests.faults.test_killed_fit import assert_same_run, config
from tests.helpers import fit
from tests.processes import Run


def train(rows: Path, policy: Path, run_dir: Path, callback: Checkpoints, steps: int = 6, **options: Any) -> Any:
    """A run in this process that writes checkpoint directories."""
    return fit(
        rows,
        policy,
        run_dir,
        steps=steps,
        callbacks=[callback],
        trainer={"plugins": [CheckpointFiles()], "enable_checkpointing": True},
        **options,
    )


@pytest.fixture
def three(tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path) -> Path:
    """The checkpoints of a run after 2, 4 and 6 steps."""
    train(tiny_rows_split, tiny_policy_dir, tmp_path, Checkpoints(every_n_train_steps=2, keep_last=None))
    return tmp_path / "checkpoints"


def steps_in(checkpoints: Path) -> list[int]:
    return [step_of(path) for path in all_checkpoints(checkpoints)]


def test_a_checkpoint_is_a_directory_that_says_what_it_holds(three: Path) -> None:
    assert steps_in(three) == [2, 4, 6]
    assert (three / LAST).resolve() == all_checkpoints(three)[-1].resolve()
    facts = verify(three / LAST)
    assert set(facts["files"]) == {WEIGHTS, TRAINER}
    assert (facts["step"], facts["engine"], facts["ranks"]) == (6, "torch", 1)
    for name, expected in facts["files"].items():
        assert (three / LAST / name).stat().st_size == expected["bytes"]
    torch.load(three / LAST / TRAINER, weights_only=True)


def test_tied_weights_are_written_once(tmp_path: Path) -> None:
    tied = torch.randn(5, 3)
    state = {"a": tied, "b": torch.randn(2), "c": tied}
    write_weights(tmp_path / "w", state)
    found = read_weights(tmp_path / "w")
    assert all(torch.equal(found[name], value) for name, value in state.items())
    assert (tmp_path / "w").stat().st_size < 4 * (15 + 2) + 500


@pytest.mark.parametrize(
    ("keep_last", "keep_every", "expected"),
    [(1, None, [8]), (2, None, [7, 8]), (1, 3, [3, 6, 8]), (None, None, [*range(1, 9)])],
)
def test_the_newest_and_every_so_many_are_kept(
    keep_last: int | None,
    keep_every: int | None,
    expected: list[int],
    tiny_rows_split: Path,
    tiny_policy_dir: Path,
    tmp_path: Path,
) -> None:
    callback = Checkpoints(every_n_train_steps=1, keep_last=keep_last, keep_every=keep_every)
    train(tiny_rows_split, tiny_policy_dir, tmp_path, callback, steps=8)
    assert steps_in(tmp_path / "checkpoints") == expected
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {LAST, *(f"step-{s:08d}" for s in expected)}


@pytest.mark.parametrize("field", ["every_n_train_steps", "keep_last", "keep_every"])
def test_numbers_below_one_are_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=rf"checkpoint\.{field}: got 0; give at least 1, or null"):
        Checkpoints(**{field: 0})  # type: ignore[arg-type]


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeroed(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(len(content) - 100))


def bit_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 16
    path.write_bytes(content)


def removed(path: Path) -> None:
    path.unlink()


@pytest.mark.fault("a damaged file in the newest checkpoint", "it is reported by name, and the one before it is used")
@pytest.mark.parametrize("name", [WEIGHTS, TRAINER, "manifest.json"])
@pytest.mark.parametrize("damage", [truncated, zeroed, bit_flipped, removed])
def test_a_damaged_checkpoint_is_passed_over(damage: Callable[[Path], None], name: str, three: Path) -> None:
    before = all_checkpoints(three)
    damage(before[-1] / name)
    if damage is bit_flipped and name == "manifest.json":
        (before[-1] / name).write_text(
            (before[-1] / name).read_text(errors="replace").replace('"crc32": ', '"crc32": 1')
        )
    with pytest.warns(
        UserWarning, match=r"step-00000006.*(damaged|missing|not a checkpoint).*trying the one before it"
    ):
        assert newest(three) == before[1]
    with pytest.raises((ConfigError, DataError), match="step-00000006"):
        verify(before[-1])


def test_no_undamaged_checkpoint_is_an_error(three: Path) -> None:
    for path in all_checkpoints(three):
        truncated(path / TRAINER)
    with pytest.warns(UserWarning, match="cannot be trusted"), pytest.raises(DataError, match="all 3 checkpoints"):
        newest(three)


@pytest.mark.fault(
    "a damaged newest checkpoint, and the run goes on", "from the one before it, bit for bit the same run"
)
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
    tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    settings = config(tiny_rows_split, tiny_policy_dir, tiny_reference_dir)
    undisturbed = Run(tmp_path / "undisturbed", settings).finish()
    resumed = Run(tmp_path / "resumed", settings)
    shutil.copytree(undisturbed.folder, resumed.folder, symlinks=True)
    (resumed.folder / "config.yaml").write_text(
        (resumed.folder / "config.yaml").read_text().replace("undisturbed", "resumed")
    )
    bit_flipped(all_checkpoints(resumed.checkpoints)[-1] / WEIGHTS)
    resumed.finish("--ckpt_path=last")
    assert "policy.safetensors is damaged" in resumed.output
    assert_same_run(resumed, undisturbed)


@pytest.mark.slow
@pytest.mark.fault("kill -9 while a checkpoint is written", "it is no checkpoint, the one before it is used")
def test_a_kill_during_a_save_leaves_the_earlier_checkpoints(
    tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    settings = config(tiny_rows_split, tiny_policy_dir, tiny_reference_dir)
    undisturbed = Run(tmp_path / "undisturbed", settings).finish()
    run = Run(tmp_path / "killed", settings)
    for arguments in ((), ("--ckpt_path=last",), ("--ckpt_path=last",)):

        def saving() -> bool:
            found = all_checkpoints(run.checkpoints)
            return bool(found) and any(run.checkpoints.glob(".step-*.partial/*"))

        run.start_and_kill(saving, *arguments)
        for path in all_checkpoints(run.checkpoints):
            verify(path)
    run.finish("--ckpt_path=last")
    assert_same_run(run, undisturbed, kills=3)
    assert not list(run.checkpoints.glob(".*"))


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the kernel refuse what is written of one checkpoint: its trainer state goes to a device without room."""

    def fill(step: int) -> None:

        def begin_on_full_disk(path: Path) -> Path:
            aside = begin(path)
            if step_of(path) == step:
                (aside / TRAINER).symlink_to("/dev/full")
            return aside

        monkeypatch.setattr(files, "begin", begin_on_full_disk)

    return fill


@pytest.mark.fault(
    "a disk that is full while a checkpoint is written", "a loud warning, the run goes on, earlier ones stay"
)
def test_a_full_disk_costs_one_checkpoint(
    full_disk: Callable[[int], None], tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path
) -> None:
    full_disk(4)
    callback = Checkpoints(every_n_train_steps=2, keep_last=None)
    with pytest.warns(
        UserWarning, match=r"step 4: the checkpoint .*step-00000004 was not written.*CONTINUES WITHOUT IT"
    ):
        run = train(tiny_rows_split, tiny_policy_dir, tmp_path, callback)
    assert steps_in(tmp_path / "checkpoints") == [2, 6]
    assert len(run.losses) == 6
    assert not aside_of(tmp_path / "checkpoints" / "step-00000004").exists()
    verify(tmp_path / "checkpoints" / "step-00000002")


@pytest.mark.fault("a disk that is full while the first checkpoint is written", "a loud warning, and nothing is left")
def test_a_full_disk_may_refuse_the_first_checkpoint(
    tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:  # as torch says it of an archive that was cut short
        monkeypatch.undo()
        raise RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", refuse)
    callback = Checkpoints(every_n_train_steps=2)
    with pytest.warns(
        UserWarning, match=r"step 2: the checkpoint .*step-00000002 was not written.*CONTINUES WITHOUT IT"
    ):
        run = train(tiny_rows_split, tiny_policy_dir, tmp_path, callback, steps=3)
    assert len(run.losses) == 3 and steps_in(tmp_path / "checkpoints") == [3]
    assert not list((tmp_path / "checkpoints").glob(".step*"))


@pytest.mark.fault("a disk too full for the next checkpoint", "it is not begun: a loud warning, the run goes on")
def test_a_checkpoint_that_would_not_fit_is_not_begun(
    tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", ["total", "used", "free"])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10_000, 10_000))
    with pytest.warns(UserWarning, match=r"step 4: .*0 MB free.*CONTINUES WITHOUT IT"):
        run = train(tiny_rows_split, tiny_policy_dir, tmp_path, Checkpoints(every_n_train_steps=2))
    assert steps_in(tmp_path / "checkpoints") == [2]
    assert len(run.losses) == 6


@pytest.mark.fault("a full disk, with checkpoint.if_refused: stop", "the run stops, earlier checkpoints stay")
def test_a_full_disk_can_stop_the_run(
    full_disk: Callable[[int], None], tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path
) -> None:
    full_disk(4)
    callback = Checkpoints(every_n_train_steps=2, if_refused="stop")
    with pytest.raises(DataError, match=r"step 4: .*was not written.*training stops"):
        train(tiny_rows_split, tiny_policy_dir, tmp_path, callback)
    assert steps_in(tmp_path / "checkpoints") == [2]


@pytest.mark.fault("a file system that became read-only", "a loud warning, the run goes on, earlier ones stay")
def test_a_read_only_folder_costs_checkpoints(
    tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin_on_read_only_file_system(path: Path) -> Path:
        if step_of(path) > 2:
            Path("/proc/checkpoint").mkdir()  # the kernel refuses even root
        return begin(path)

    monkeypatch.setattr(files, "begin", begin_on_read_only_file_system)
    with pytest.warns(UserWarning, match="CONTINUES WITHOUT IT"):
        train(tiny_rows_split, tiny_policy_dir, tmp_path, Checkpoints(every_n_train_steps=2))
    assert steps_in(tmp_path / "checkpoints") == [2]
