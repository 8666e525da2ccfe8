"""Callbacks that leave something behind in their process, or end it."""

import json
import os
import random
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch


class Litter(pl.Callback):
    """Write down what the process is like when training starts, and change all of it when training ends."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        found = {
            "process": os.getpid(),
            "directory": str(Path.cwd()),
            "environment": os.environ.get("LITTER"),
            "handler": str(signal.getsignal(signal.SIGINT)),
            "threads": torch.get_num_threads(),
            "dtype": str(torch.get_default_dtype()),
            "matmul": torch.get_float32_matmul_precision(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "filters": sum(kept[0] == "error" for kept in warnings.filters),
            "random": [random.random(), float(np.random.random()), torch.rand(1).item()],
        }
        Path(trainer.default_root_dir, "litter.json").write_text(json.dumps(found))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        os.environ["LITTER"] = "left"
        os.chdir("/")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.set_default_dtype(torch.float64)
        torch.set_float32_matmul_precision("medium")
        torch.use_deterministic_algorithms(True)
        warnings.simplefilter("error", FutureWarning)
        sys.argv.append("left")


class Dies(pl.Callback):
    """End the process where the order is that of seed 1."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if pl_module.data.seed == 1:
            os._exit(9)
