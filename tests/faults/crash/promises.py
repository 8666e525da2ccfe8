"""The promise of each verb, and a small case of it to try that on."""

import multiprocessing
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.data.columns import ScoreColumn, column_directory
from remit_lit.data.manifest import SPLITS, read_manifest
from remit_lit.data.rows import PackedRows
from remit_lit.errors import ConfigError
from remit_lit.jobs.job import Job
from remit_lit.lab.tokenizer import build_tokenizer
from remit_lit.posttraining.run_folder import RunFolder
from remit_lit.runs.checkpoint import step_of
from remit_lit.runs.resume import find_checkpoint, require_same_meaning
from tests.columns import shards_of
from tests.faults.crash.disk import Directory, Disk, Link
from tests.faults.crash.promise import Promise
from tests.helpers import TIME, make_rows, save_model
from tests.processes import short_run


class OfRun(Promise):
    """A verb that trains in a run folder."""

    @property
    def run(self) -> Path:
        return self.root / "runs" / "run"

    def file_of(self, name: str) -> bytes:
        """A file of the undisturbed run."""
        content = self.undisturbed[f"runs/run/{name}"]
        assert isinstance(content, bytes)
        return content

    def require_whole(self) -> None:
        self.require_same("runs/run/model/model.safetensors", "runs/run/model/config.json")

    def require_all(self) -> None:
        self.require_same(*(f"runs/run/{name}" for name in ("config.yaml", "metrics.csv", "model", "run.json")))


class Fit(OfRun):
    """It goes on from the newest finished checkpoint, and ends with the same weights."""

    verb = "fit"

    def prepare(self) -> list[str]:
        policy = save_model(self.inputs / "policy", seed=1)
        rows = make_rows(self.inputs / "rows", policy, TIME)
        checkpoint = {"every_n_train_steps": 2, "keep_last": 2}
        self.config = self.write_config({**short_run(rows, policy, 6), "checkpoint": checkpoint})
        return [self.verb, self.config, f"--run_dir={self.run}"]

    @property
    def again(self) -> list[str]:
        return [self.verb, self.config, f"--run_dir={self.run}", "--ckpt_path=last"]

    def acknowledged(self, disk: Disk) -> int:
        directory = disk.find(str(self.run / "checkpoints"))
        last = directory.synced.get("last.ckpt") if isinstance(directory, Directory) else None
        return int(last.target.split("-")[1]) if isinstance(last, Link) else 0

    def require_safe(self, acknowledged: int) -> None:
        found = find_checkpoint("last", self.run)
        steps = 0 if found is None else step_of(found)
        assert steps >= acknowledged, f"goes on from step {steps}, though that of step {acknowledged} was finished"
        if found is not None:
            require_same_meaning(self.run, yaml.safe_load(self.file_of("config.yaml")), ())

    def require_all(self) -> None:
        super().require_all()
        self.require_same("runs/run/policy")


class PostTrain(OfRun):
    """As `fit`."""

    verb = "posttrain"

    def prepare(self) -> list[str]:
        policy = save_model(self.inputs / "policy", seed=1)
        training = {"learning_rate": 1e-2, "batch_size": 4, "steps": 4, "accelerator": "cpu", "save_steps": 2}
        data = {"class_path": "LabProblems", "init_args": {"problems": 16}}
        stage = {"class_path": "SFT"}
        self.config = self.write_config(
            {"model": {"path": str(policy)}, "stage": stage, "data": data, "training": training}
        )
        return [self.verb, self.config, f"--run_dir={self.run}"]

    @property
    def again(self) -> list[str]:
        return [self.verb, self.config, f"--run_dir={self.run}", "--resume=true"]

    def acknowledged(self, disk: Disk) -> int:
        directory = disk.find(str(self.run / "checkpoints"))
        checkpoints = directory.names if isinstance(directory, Directory) else {}
        marked = [name for name, of in checkpoints.items() if isinstance(of, Directory) and "whole" in of.synced]
        return max((int(name.split("-")[1]) for name in marked), default=0)

    def require_safe(self, acknowledged: int) -> None:
        folder = RunFolder(str(self.run), overwrite=False, resume=True)
        steps = 0 if folder.checkpoint is None else int(folder.checkpoint.name.split("-")[1])
        assert steps >= acknowledged, f"goes on from step {steps}, though that of step {acknowledged} was finished"
        if folder.checkpoint is not None:
            self.require_same(str(folder.checkpoint.relative_to(self.root)))
        if folder.record:
            folder.require_same(yaml.safe_load(self.file_of("config.yaml")), {}, folder.record["data"]["fingerprint"])


class Score(Promise):
    """It ends with the same bytes, and no half column passes for a whole one."""

    verb = "score"

    def prepare(self) -> list[str]:
        model = save_model(self.inputs / "model", seed=2)
        rows = make_rows(self.inputs / "rows", model, TIME)
        shutil.copytree(rows, self.root / "rows")
        fields = {"rows": self.root / "rows", "model.path": model, "column": "nll", "rows_per_shard": 8}
        self.arguments = [self.verb, *(f"--{name}={value}" for name, value in fields.items()), "--accelerator=cpu"]
        return self.arguments

    @property
    def again(self) -> list[str]:
        return self.arguments

    def keep(self) -> None:
        self.shards = shards_of(self.root / "rows", "nll")

    def require_safe(self, acknowledged: int) -> None:
        try:
            ScoreColumn(column_directory(self.root / "rows", "train", "nll")).verify()
        except ConfigError:  # it says that it is not there, or not complete
            return
        self.require_whole()

    def require_whole(self) -> None:
        assert shards_of(self.root / "rows", "nll") == self.shards


class Prepare(Promise):
    """No half rows pass for whole ones, and the same command makes those of the undisturbed one."""

    verb = "prepare"

    def prepare(self) -> list[str]:
        build_tokenizer().save_pretrained(self.inputs / "tokenizer")
        source = {"class_path": "LabDocuments", "init_args": {"kind": "web", "documents": 60}}
        config = self.write_config(
            {
                "tokenizer": str(self.inputs / "tokenizer"),
                "sequence_length": TIME,
                "sources": {"web": source},
                "validation_share": 0.1,
            }
        )
        self.arguments = [self.verb, config, f"--output={self.root / 'data' / 'rows'}"]
        return self.arguments

    @property
    def again(self) -> list[str]:
        is_there = (self.root / "data" / "rows").exists()  # the command would say so
        return [] if is_there else self.arguments

    def require_safe(self, acknowledged: int) -> None:
        if (self.root / "data" / "rows").exists():
            self.require_whole()

    def require_whole(self) -> None:
        rows = self.root / "data" / "rows"
        read_manifest(rows)
        for split in SPLITS:
            packed = PackedRows(rows / split)
            assert len([packed[index] for index in range(len(packed))])  # each is compared with its checksum
        self.require_same(*(f"data/rows/{name}" for name in ("manifest.json", *SPLITS)))


class _Forks(multiprocessing.context.ForkContext):
    def set_forkserver_preload(self, module_names: list[str]) -> None:
        """There is no server."""


class Table(Promise):
    """No job counts as done whose result is not whole, and the table ends with the same figures."""

    verb = "table"
    runs = ("fit", "evaluate")

    def prepare(self) -> list[str]:
        policy = save_model(self.inputs / "policy", seed=1)
        rows = make_rows(self.inputs / "rows", policy, TIME)
        (self.inputs / "run.yaml").write_text(
            yaml.safe_dump({**short_run(rows, policy, 2), "checkpoint": {"at_end": False}})
        )
        config = self.write_config(
            {
                "title": "a small table",
                "output": str(self.root / "table"),
                "experiment": [str(self.inputs / "run.yaml")],
                "seeds": [0],
                "fields": {"data.seed": "{seed}", "data.rows": str(rows)},
                "methods": {
                    "base": {"title": "Base", "model": str(policy)},
                    "ntp": {"title": "NTP", "configs": ["baselines/ntp.yaml"]},
                },
                "baseline": "base",
                "evaluate": {"tasks": ["lab"], "limit": 5},
                "rows": {"nll": {"title": "NLL", "task": "lab", "metric": "nll_correct_result"}},
            }
        )
        self.arguments = [self.verb, config, f"--cells={self.root / 'cells'}"]
        return self.arguments

    @property
    def again(self) -> list[str]:
        return self.arguments

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        """Fork its jobs from this process, which has their imports, and not from a server that has to import them."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(multiprocessing, "get_context", lambda method=None: _Forks())
            yield

    def require_safe(self, acknowledged: int) -> None:
        for folder in (self.root / "cells").glob("*-*"):
            if _counts_as_done(folder):
                results = [f"cells/{folder.name}/result/{name}" for name in ("evaluation.json", "model")]
                self.require_same(*(name for name in results if name in self.undisturbed))

    def require_whole(self) -> None:
        self.require_same("table/cells.csv", "table/seeds.csv")
        assert all(_counts_as_done(folder) for folder in (self.root / "cells").glob("*-*"))


def _counts_as_done(folder: Path) -> bool:
    """Whether a table would take the job's result, by the job's own word."""
    verb, _, key = folder.name.partition("-")
    job = Job(folder.name, folder.parent, verb)
    vars(job)["key"] = key
    return job.state == "done"


PROMISES: dict[str, type[Promise]] = {kind.verb: kind for kind in (Fit, Score, Prepare, Table, PostTrain)}
