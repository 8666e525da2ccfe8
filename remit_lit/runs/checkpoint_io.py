"""What a checkpoint of one process or of DDP holds: weights as safetensors, and the state of the trainer."""

import errno
import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from remit_lit.errors import DataError
from remit_lit.runs.checkpoint import begin, discard, finish
from remit_lit.runs.weights import WEIGHTS, read_weights, write_weights

TRAINER = "trainer.pt"
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
