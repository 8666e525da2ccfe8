"""What a command may leave behind in its process, so that the next one there begins as in a process of its own."""

import gc
import os
import random
import signal
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class ProcessState:
    """The state of this process as it is now.

    Settings and random numbers only: imported modules and their caches stay, which is what a process is shared for.
    """

    def __init__(self) -> None:
        self.environment, self.directory, self.arguments = dict(os.environ), Path.cwd(), list(sys.argv)
        self.filters = list(warnings.filters)
        self.handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        self.random = random.getstate(), np.random.get_state(), torch.get_rng_state()
        self.torch = torch.get_num_threads(), torch.get_default_dtype(), torch.get_float32_matmul_precision()
        self.deterministic = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )

    def restore(self) -> None:
        """Bring it back."""
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.directory)
        sys.argv[:] = self.arguments
        warnings.filters[:] = self.filters  # type: ignore[index]
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        python, numpy, torchs = self.random
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(torchs)
        threads, dtype, precision = self.torch
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.set_float32_matmul_precision(precision)
        enabled, warn_only = self.deterministic
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        gc.collect()  # a finished trainer and its model hold each other
