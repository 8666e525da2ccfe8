"""How much memory a process takes from before its models are loaded to the end of training."""

import importlib
from pathlib import Path

import lightning.pytorch as pl


class PeakMemory(pl.Callback):
    """Write how far the peak of resident memory rises above what was resident before the models were loaded, in bytes.

    Args:
        path: file to write.
    """

    def __init__(self, path: str) -> None:
        self.path, self.before = Path(path), 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        importlib.import_module("transformers.models.llama.modeling_llama")  # code, not tensors
        self.before = _status("VmRSS")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.path.write_text(str(_status("VmHWM") - self.before))


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kilobytes) * 1024
