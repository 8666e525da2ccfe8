"""What an evaluation must leave as it was: the model's mode, and the random state that a training goes on with."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def isolated(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients within; the mode of each module is restored, whatever happens."""
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python, NumPy and torch draw from ``seed`` within, and go on as before afterwards, whatever happens."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
