"""Real runs of the command line in processes of their own, and what they leave behind."""

import contextlib
import csv
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]
from safetensors.torch import load_file
from torch import Tensor

from tests.warm import ForkedProcess, WarmProcess

ROOT = Path(__file__).parents[1]
SECONDS = 180


def documented_commands(verb: str) -> list[list[str]]:
    """The arguments of each command of that verb on an experiment of the repository or a run of one, the verb first.

    From the README and all pages but the tutorial, which brings its own files and has a test of its own.
    """
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    texts = [path.read_text().replace("\\\n", " ") for path in pages if path.name != "tutorial.md"]
    pattern = re.compile(rf"-m remit_lit ({verb} (?:--config experiments/|runs/).*?)(?:`|$)", re.MULTILINE)
    lines = {line.strip() for text in texts for line in pattern.findall(text)}
    return [shlex.split(line, comments=True) for line in sorted(lines)]


def short_run(rows: Path, policy: Path, steps: int, callbacks: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The config of a `fit` by next-token prediction on the CPU, with nothing that such a run does not need."""
    return {
        "model": {
            "policy": {"path": str(policy)},
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
            "horizon": {"steps": steps},
        },
        "data": {"rows": str(rows), "batch_size": 2, "num_workers": 0},
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "enable_progress_bar": False,
            "limit_val_batches": 0,
            "callbacks": list(callbacks),
        },
    }


class Run:
    """A run folder, the config of its run, and the processes that train there.

    Args:
        directory: for the config, the run folder and what the processes print.
        config: of the run.
    """

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.folder, self.printed = directory / "run", directory / "printed.txt"
        self.config = directory / "config.yaml"
        self.rewrite(config)

    def rewrite(self, config: dict[str, Any]) -> None:
        """Give the runs to come another config."""
        self.config.write_text(yaml.safe_dump({**config, "run_dir": str(self.folder)}))

    def start(self, *arguments: str, **variables: str) -> WarmProcess:
        """`fit` in a process group of its own; what it prints is added to ``printed``."""
        command = ["fit", f"--config={self.config}", *arguments]
        return WarmProcess(command, self.printed, {"PYTHONPATH": str(ROOT), **variables})

    def launch(self, *launcher: str, **variables: str) -> subprocess.Popen[bytes]:
        """`fit` in a process group of its own by a launcher's command, which brings an interpreter of its own."""
        with open(self.printed, "ab") as printed:
            return subprocess.Popen(
                [*launcher, "remit_lit", "fit", f"--config={self.config}"],
                env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *arguments: str) -> int:
        """`fit` to its end; the exit code."""
        process = self.start(*arguments)
        try:
            return process.wait(SECONDS)
        finally:
            kill(process)

    def finish(self, *arguments: str) -> "Run":
        """`fit` to an end without errors."""
        assert self.run(*arguments) == 0, self.output
        return self

    def start_and_kill(self, when: Callable[[], bool], *arguments: str) -> None:
        """`fit`, and SIGKILL to the whole group as soon as ``when``."""
        process = self.start(*arguments)
        self.wait(process, when)
        kill(process)

    def wait(self, process: subprocess.Popen[bytes] | WarmProcess, when: Callable[[], bool]) -> None:
        """Until ``when``; fails if the process ends before."""
        end = time.monotonic() + SECONDS
        while not when():
            assert process.poll() is None and time.monotonic() < end, self.output
            time.sleep(0.001)

    @property
    def output(self) -> str:
        return self.printed.read_text(errors="replace")

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def metrics(self) -> dict[int, dict[str, str]]:
        """What was logged at each step as it is written; of steps that were done again, the later."""
        rows: dict[int, dict[str, str]] = {}
        earlier = sorted(self.folder.glob("metrics-*.csv"), key=lambda path: int(path.stem.split("-")[1]))
        for path in (*earlier, self.folder / "metrics.csv"):
            with open(path, newline="") as stream:
                for row in csv.DictReader(stream):
                    values = {name: value for name, value in row.items() if value and name in _EXACT}
                    rows.setdefault(int(row["step"]), {}).update(values)
        return {step: row for step, row in rows.items() if row}

    @property
    def losses(self) -> list[float]:
        return [float(row["train/loss"]) for _, row in sorted(self.metrics.items())]

    @property
    def weights(self) -> dict[str, Tensor]:
        return load_file(self.folder / "model" / "model.safetensors")


_EXACT = ("train/loss", "train/grad_norm", "train/learning_rate", "weights/mean", "tokens_seen")


def kill(process: subprocess.Popen[Any] | ForkedProcess) -> None:
    """SIGKILL to a process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def furthest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Largest difference of two models' weights."""
    assert a.keys() == b.keys()
    return max(torch.abs(a[name].double() - b[name].double()).max().item() for name in a)
