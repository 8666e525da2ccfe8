"""What a checkpoint of one process or of DDP holds: weights as safetensors, and the state of the trainer."""

import errno
import re
import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from remit_lit.errors import DataError
from remit_lit.runs.checkpoint import begin, discard, finish

WEIGHTS, TRAINER, ENGINE = "policy.safetensors", "trainer.pt", "checkpoint"
POLICY_PREFIX = "policy."
"""What the names of the policy's weights begin with."""
# In the manifest: facts of the run at this step.
FACTS = "facts"


class CheckpointFiles(CheckpointIO):
    """Writes and reads checkpoint directories.

    Attributes:
        error: of the last write, if the disk refused it; kept for all ranks to agree on what to do.
    """

    error: OSError | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        self.error = None
        path, rest = Path(path), {name: value for name, value in checkpoint.items() if name != "state_dict"}
        try:
            aside = begin(path)
            write_weights(aside / WEIGHTS, checkpoint["state_dict"])
            _write_trainer(aside / TRAINER, rest)
            finish(path, checkpoint.get(FACTS, {}))
        except OSError as error:
            discard(path)
            self.error = error

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> Any:
        """The state of the trainer and the weights. Nothing that could run code is unpickled.

        Raises:
            DataError: a file is not what this class writes.
        """
        rest = read_trainer(Path(path), map_location or "cpu")
        return {**rest, "state_dict": read_weights(Path(path, WEIGHTS))}

    def remove_checkpoint(self, path: Any) -> None:
        shutil.rmtree(path)


def read_trainer(path: Path, device: Any) -> dict[str, Any]:
    """The state of the trainer in the checkpoint at ``path``; on the meta device, shapes and settings alone.

    Raises:
        DataError: the file is not what :class:`CheckpointFiles` writes.
    """
    file = path / TRAINER
    try:
        state: dict[str, Any] = torch.load(file, map_location=device, weights_only=True, mmap=device == "meta")
    except (UnpicklingError, RuntimeError, OSError, EOFError) as error:
        raise DataError(f"checkpoint: {file} cannot be read ({_first_line(error)})") from error
    return state


def _write_trainer(path: Path, state: dict[str, Any]) -> None:
    """Raise OSError where the disk refuses it; torch says RuntimeError of a file that it could not write to its end."""
    with open(path, "wb") as file:  # given a path, torch does not say that the disk is full
        try:
            torch.save(state, file)
        except RuntimeError as error:
            raise OSError(errno.EIO, _first_line(error), str(path)) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


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
