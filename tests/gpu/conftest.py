"""Tests of what a GPU computes; without one they are skipped. ``REMIT_LIT_GPU_TESTS=cpu`` tries their code on a CPU."""

import os

import pytest


@pytest.fixture(scope="session")
def accelerator() -> str:
    """Lightning's name of the device that is tested, gpu but for trying these tests themselves."""
    import torch

    wanted = os.environ.get("REMIT_LIT_GPU_TESTS", "gpu")
    if wanted == "gpu" and not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU here")
    return wanted


@pytest.fixture(scope="session")
def device(accelerator: str):
    """The same as torch names it."""
    import torch

    return torch.device("cuda" if accelerator == "gpu" else "cpu")
