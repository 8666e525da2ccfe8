"""A policy that takes its time when it is evaluated, or does not come back from it."""

import time
from typing import Any

import lightning.pytorch as pl


class SlowPolicy(pl.Callback):
    """Sleep in each forward pass outside of training, which asks the policy's body and not the policy.

    Args:
        seconds: of each.
        record: file that gets a line for each.
    """

    def __init__(self, seconds: float, record: str) -> None:
        self.seconds, self.record = seconds, record

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        pl_module.policy.register_forward_pre_hook(self._sleep)

    def _sleep(self, *_: Any) -> None:
        with open(self.record, "a") as stream:
            stream.write("asked\n")
        time.sleep(self.seconds)
