"""The weights in a checkpoint of one process or of DDP, as safetensors."""

import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from remit_lit.errors import DataError

WEIGHTS, ENGINE = "policy.safetensors", "checkpoint"
"""In a checkpoint, the file of the weights, and the folder that ZeRO writes in its place."""
POLICY_PREFIX = "policy."
"""What the names of the policy's weights begin with."""


def write_weights(path: Path, state: dict[str, Tensor]) -> None:
    """Write safetensors; of tensors that are the same (tied embeddings) the first is written and the others named.

    Raises:
        OSError: the disk refuses it.
    """
    first: dict[tuple[int, torch.Size], str] = {}
    tensors, tied = {}, {}
    for name, value in state.items():
        owner = first.setdefault((value.data_ptr(), value.shape), name)
        if owner == name or value.numel() == 0:
            tensors[name] = value.detach().contiguous()
        else:
            tied[name] = owner
    try:
        save_file(tensors, path, metadata=tied)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), str(error)) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """What :func:`write_weights` wrote, on the CPU.

    Raises:
        DataError: it is no such file.
    """
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            return state | {name: state[owner] for name, owner in (file.metadata() or {}).items()}
    except (SafetensorError, OSError, KeyError) as error:
        raise DataError(f"checkpoint: {path} cannot be read ({error})") from error
