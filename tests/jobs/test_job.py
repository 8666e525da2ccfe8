"""What a job's result is kept under, and what a folder tells of it."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from remit_lit.errors import ConfigError
from remit_lit.jobs.fields import fill
from remit_lit.jobs.fingerprint import fingerprint
from remit_lit.jobs.job import Job, with_inputs
from remit_lit.jobs.scheduler import estimated_seconds
from tests.helpers import save_model


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def key(root: Path, *configs: str, **fields: Any) -> str:
    return Job("a-0", root, "fit", configs, fields).key


def test_a_comment_a_name_and_an_order_do_not_count(tmp_path):
    plain = write(tmp_path / "a.yaml", "model: {x: 1}\ndata: {y: 2}\n")
    other = write(tmp_path / "b.yaml", "# what y is\ndata:\n  y: 2   # ours\nmodel:\n  x: 1\n")
    assert key(tmp_path, plain) == key(tmp_path, other) == Job("else-3", tmp_path / "elsewhere", "fit", (plain,)).key


def test_each_value_counts(tmp_path):
    config = write(tmp_path / "a.yaml", "model: {x: 1}\n")
    keys = {
        key(tmp_path, config),
        key(tmp_path, write(tmp_path / "b.yaml", "model: {x: 2}\n")),
        key(tmp_path, write(tmp_path / "c.yaml", "model: {x: 1, y: null}\n")),
        key(tmp_path, config, seed=1),
        key(tmp_path, config, seed=2),
        Job("a-0", tmp_path, "evaluate", (config,)).key,
        Job("a-0", tmp_path, "fit", (config,), {}, {"base": Job("b", tmp_path, "fit")}).key,
        Job("a-0", tmp_path, "fit", (config,), {}, {"base": Job("b", tmp_path, "fit", (), {"seed": 1})}).key,
    }
    assert len(keys) == 8


def test_a_value_that_is_replaced_does_not_count(tmp_path):
    first = write(tmp_path / "a.yaml", "model: {x: 1, z: 1}\n")
    second = write(tmp_path / "b.yaml", "model: {x: 2, z: 1}\n")
    overlay = write(tmp_path / "c.yaml", "model: {x: 3}\n")
    assert key(tmp_path, first, overlay) == key(tmp_path, second, overlay) == key(tmp_path, first, **{"model.x": 3})


def test_what_is_replaced_as_a_whole_does_not_count(tmp_path):
    whole = write(tmp_path / "a.yaml", "model: {weighting: NextTokenPrediction}\n")
    parts = write(tmp_path / "b.yaml", "model: {weighting: {class_path: ReMiT, init_args: {epsilon: 0.2}}}\n")
    assert key(tmp_path, whole, parts) == key(tmp_path, parts) != key(tmp_path, parts, whole) == key(tmp_path, whole)


def test_where_the_result_goes_does_not_count(tmp_path):
    config = write(tmp_path / "a.yaml", "seed: 1\nrun_dir: runs/a\n")
    assert key(tmp_path, config) == key(tmp_path, write(tmp_path / "b.yaml", "seed: 1\nrun_dir: runs/b\n"))


def test_rows_that_a_run_makes_count_by_how_they_are_made(tmp_path, rows):
    """So a run counts the same before it has made them and afterwards."""
    given = Job("a", tmp_path, "fit", (), {"data.rows": str(rows)})
    made = Job("a", tmp_path, "fit", (), {"data.rows": str(rows), "data.prepare.seed": 3})
    assert str(rows) in given.recipe["contents"] and str(rows) not in made.recipe["contents"]


def test_a_score_column_that_is_named_counts(tmp_path, rows):
    fields = {"data.rows": str(rows), "model.reference.init_args.column": "nll_rl"}
    keys = [key(tmp_path, **fields)]
    for reference, column in (("a", "nll_rl"), ("b", "nll_rl"), ("c", "nll_other")):
        place = rows / "columns" / "train" / column
        place.mkdir(parents=True, exist_ok=True)
        (place / "column.json").write_text(json.dumps({"model": reference}))
        keys.append(key(tmp_path, **fields))
    assert len(set(keys)) == 3 and keys[2] == keys[3]


def test_code_of_the_users_own_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_own_weighting.py").write_text("raise SystemExit('it is not run to be read')\n")
    first = fingerprint("my_own_weighting.Focal")
    (tmp_path / "my_own_weighting.py").write_text("GAMMA = 2.0\n")
    assert first is not None and fingerprint("my_own_weighting.Focal") not in (None, first)
    package = tmp_path / "my_own_rewards"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "exact.py").write_text("A = 1\n")
    before = fingerprint("my_own_rewards.exact.score")
    (package / "exact.py").write_text("A = 2\n")
    assert before is not None and fingerprint("my_own_rewards.exact.score") not in (None, before)
    for installed in ("torch.optim.AdamW", "remit_lit.weighting.ReMiT", "json.dumps", "no_such_module.x"):
        assert fingerprint(installed) is None


def test_files_models_and_rows_count_by_their_contents(tmp_path, rows):
    text, model = tmp_path / "text.jsonl", save_model(tmp_path / "model", seed=1)
    text.write_text("one\n")
    fields = {"files": str(tmp_path / "*.jsonl"), "model.path": str(model), "rows": str(rows)}
    kept = Job("a", tmp_path, "fit", (), fields)
    before = kept.key
    (rows / "columns").mkdir(exist_ok=True)
    (rows / "columns" / "more").write_text("a score column beside the rows")
    found = [fingerprint(value) for value in fields.values()]
    assert None not in found and [fingerprint(value) for value in fields.values()] == found
    text.write_text("two\n")
    save_model(tmp_path / "model", seed=2)
    (rows / "manifest.json").write_text((rows / "manifest.json").read_text().replace("tokenizer", "tokeniser"))
    assert all(now != then for now, then in zip(map(fingerprint, fields.values()), found, strict=True))
    assert before == kept.key  # a job's key is what it was when it was first computed


@pytest.mark.parametrize("value", ["lab/accuracy", "a" * 5000, "", "org/model", "\0", "{base}/model"])
def test_a_value_that_names_nothing_has_no_fingerprint(value):
    assert fingerprint(value) is None


def test_a_runs_folder_counts_by_its_model(tmp_path):
    model = save_model(tmp_path / "run" / "model", seed=1)
    assert fingerprint(str(tmp_path / "run")) == fingerprint(str(model)) is not None


def test_embedded_models_have_fingerprints():
    assert fingerprint("lab/base") not in (None, fingerprint("lab/sft"))


def test_braces_are_filled_with_places():
    fields = {"path": "{base}/model", "list": [{"x": "{seed}{seed}"}, 3], "json": '{"a": "{other}"}'}
    filled = fill(fields, {"base": "runs/b", "seed": "4"})
    assert filled == {"path": "runs/b/model", "list": [{"x": "44"}, 3], "json": '{"a": "{other}"}'}


def test_a_job_tells_how_it_ended(tmp_path):
    job = Job("a-0", tmp_path, "evaluate", kind="a")
    states: list[str] = [job.state]
    job.begin()
    job.result.mkdir()
    states.append(job.state)
    assert json.loads((job.folder / "job.json").read_text())["verb"] == "evaluate"
    job.end("no room", seconds=1.0)
    states.append(job.state)
    assert job.outcome["error"] == "no room"
    job.begin()
    states.append(job.state)
    assert not job.result.exists()
    job.result.mkdir()
    job.output.write_text("{}")
    job.end(None, seconds=2.0)
    states.append(job.state)
    assert job.outcome["seconds"] == 2.0
    assert states == ["missing", "interrupted", "failed", "interrupted", "done"]


def test_what_a_fit_left_stays_for_it_to_go_on_from(tmp_path):
    job = Job("a-0", tmp_path, "fit")
    job.begin()
    job.result.mkdir()
    job.begin()
    assert job.result.exists() and {"--ckpt_path=last", "--report=false"} <= set(job.arguments)


def test_the_command_has_the_results_of_its_inputs(tmp_path):
    base = Job("base-0", tmp_path, "fit", (), {"seed_everything": 3})
    job = Job("e-0", tmp_path, "evaluate", (), {"model.path": "{base}/model", "tasks": ["lab"]}, {"base": base})
    assert job.arguments == [
        "evaluate",
        f"--model.path={base.result}/model",
        '--tasks=["lab"]',
        f"--output={job.result}/evaluation.json",
    ]


def test_the_rows_of_an_input_are_a_place_and_count_by_it(tmp_path):
    runs = [Job("r-0", tmp_path, "fit", (), {"a": seed}, places={"rows": f"rows-{seed}"}) for seed in (1, 2)]
    fields = {"rows": "{run.rows}", "column": "nll"}
    scored = [Job("s-0", tmp_path, "score", (), fields, {"run": run}) for run in runs]
    assert "--rows=rows-1" in scored[0].arguments and f"--output={scored[0].result}" in scored[0].arguments
    assert scored[0].key != scored[1].key
    other = Job("s-0", tmp_path, "score", (), {**fields, "rows": "{x.rows}"}, {"x": runs[0]})
    assert other.key == scored[0].key


def test_each_job_comes_once_and_after_its_inputs(tmp_path):
    base = Job("base-0", tmp_path, "fit")
    again = Job("other-0", tmp_path, "fit")
    top = [Job(f"t-{n}", tmp_path, "fit", (), {"n": n}, {"base": base if n else again}) for n in range(2)]
    assert [job.name for job in with_inputs(top)] == ["other-0", "t-0", "t-1"]


def test_a_config_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "none.yaml", Path(write(tmp_path / "broken.yaml", "a: [1\n"))):
        with pytest.raises(ConfigError, match=path.name):
            _ = Job("a", tmp_path, "fit", (str(path),)).key


@pytest.mark.parametrize("damage", [None, "gone", "unreadable"])
def test_a_result_is_whole_or_says_what_it_lacks(tmp_path, damage):
    job = Job("a-0", tmp_path, "fit")
    for name in ("run.json", "model/config.json"):
        (job.result / name).parent.mkdir(parents=True, exist_ok=True)
        (job.result / name).write_text("{}")
    config = job.result / "model" / "config.json"
    if damage == "gone":
        config.unlink()
    if damage == "unreadable":
        config.write_bytes(bytes(9))
    assert (job.lack is None) == (damage is None)
    assert damage is None or "result/model/config.json cannot be read" in str(job.lack)


def test_an_evaluation_without_its_file_is_no_result(tmp_path):
    job = Job("a-0", tmp_path, "evaluate")
    job.result.mkdir(parents=True)
    assert "result/evaluation.json cannot be read" in str(job.lack)


def leave(job: Job, *names: str) -> None:
    for name in names:
        (job.result / name).parent.mkdir(parents=True, exist_ok=True)
        (job.result / name).write_text("{}")


def finished_job(root: Path, verb: str = "evaluate") -> Job:
    """A job that left what its verb leaves."""
    job = Job("a-0", root, verb, kind="a")
    job.begin()
    leave(job, *(["run.json", "model/config.json"] if verb == "fit" else ["evaluation.json"]))
    job.end(None, seconds=2.0)
    assert job.state == "done"
    return job


def state_of(job: Job) -> str:
    """Type checkers take a property for what it was when it was last compared."""
    return job.state


@pytest.mark.fault("a damaged record of a job", "the job has not ended, the table goes on")
@pytest.mark.parametrize("text", ["", '{"kind": "a", "sec', "[]", "{}", "\0" * 40])
def test_a_record_that_cannot_be_read_is_of_a_job_that_has_not_ended(text, tmp_path):
    for verb, stays in (("evaluate", False), ("fit", True)):
        job = finished_job(tmp_path, verb)
        (job.folder / "done.json").write_text(text)
        assert job.state == "interrupted"
        assert estimated_seconds([job]) == {job.key: None}
        job.begin()
        assert job.state == "interrupted" and job.result.exists() is stays
        (job.folder / "failed.json").write_text(text)
        assert job.state == "interrupted"


@pytest.mark.fault("a damaged result of a job", "it is told of and made anew")
@pytest.mark.parametrize("verb", ["evaluate", "fit"])
@pytest.mark.parametrize("how", ["cut off", "zeros", "removed", "all removed"])
def test_a_result_that_is_not_what_was_left_is_damaged_and_made_anew(verb, how, tmp_path):
    job = finished_job(tmp_path, verb)
    file = next(path for path in job.result.rglob("*.json"))
    if how == "cut off":
        file.write_text("{")
    elif how == "zeros":  # what a power failure leaves of a file that was not on the disk yet
        file.write_bytes(b"\0" * file.stat().st_size)
    elif how == "removed":
        file.unlink()
    else:
        shutil.rmtree(job.result)
    assert state_of(job) == "damaged" and job.damage is not None
    assert how == "all removed" or file.name in job.damage
    assert job.key in estimated_seconds([job])
    job.begin()
    assert state_of(job) == "interrupted" and not job.result.exists() and job.damage is None


def test_what_no_other_job_reads_may_be_removed(tmp_path):
    job = Job("a-0", tmp_path, "fit")
    job.begin()
    leave(job, "checkpoints/step-1/model.pt", "events.out.tfevents.1", "run.json", "model/config.json")
    job.end(None, seconds=1.0)
    shutil.rmtree(job.result / "checkpoints")
    (job.result / "events.out.tfevents.1").unlink()
    (job.result / "added").write_text("such as a column beside rows")
    assert job.state == "done"


def test_a_command_that_left_nothing_has_failed(tmp_path):
    for verb in ("evaluate", "score"):
        job = Job("a-0", tmp_path, verb)
        job.begin()
        job.end(None, seconds=1.0)
        assert job.state == "failed" and "it ended without a result" in job.outcome["error"]


def test_a_damaged_job_whose_input_failed_has_failed(tmp_path):
    job = finished_job(tmp_path)
    (job.result / "evaluation.json").unlink()
    job.end("needs base-0, which failed")
    assert state_of(job) == "failed" and job.outcome["error"] == "needs base-0, which failed"
    job.begin()
    assert state_of(job) == "interrupted"


def test_a_result_is_on_the_disk_before_the_record_says_that_it_is_done(tmp_path, monkeypatch):
    job = Job("a-0", tmp_path, "fit")
    job.begin()
    leave(job, "run.json", "model/config.json")
    synced: list[str] = []
    fsync = os.fsync

    def note(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").resolve().name)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    job.end(None, seconds=1.0)
    record = next(index for index, name in enumerate(synced) if name.startswith(".done.json"))
    assert set(synced[:record]) == {"run.json", "config.json", "model", "result"}
    assert synced[record + 1 :] == [job.folder.name]  # its new name too
