"""What is evaluated: a model directory or hub id as it is, a run's exported model, or a checkpoint."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from remit_lit.errors import ConfigError
from remit_lit.export import export
from remit_lit.models import ModelSpec
from remit_lit.run_folder import CHECKPOINTS, MODEL, POLICY


@contextmanager
def as_model(spec: ModelSpec) -> Iterator[ModelSpec]:
    """``spec`` with a path that transformers can load, for as long as the context lasts.

    A run folder stands for its ``model/``. A checkpoint is exported to the temporary directory (TMPDIR), which needs
    room for the weights.

    Raises:
        ConfigError: a fresh model, no model at the path, or a run without ``model/``.
        DataError: the checkpoint is damaged.
    """
    if spec.path is None:
        raise ConfigError("model.path: a fresh model knows nothing; give a directory, a hub id, or a run folder")
    path = Path(spec.path)
    folder = path.absolute().parent
    run = folder.parent
    if path.is_dir() and folder.name == CHECKPOINTS and (run / POLICY).is_dir():
        with tempfile.TemporaryDirectory(prefix="remit_lit-") as directory:
            yield replace(spec, path=str(export(str(run), f"{directory}/model", str(path))))
        return
    if (path / POLICY).is_dir():
        if not (path / MODEL / "config.json").exists():
            raise ConfigError(
                f"model.path: the run {path} has no model/ yet; give one of its checkpoints, e.g. "
                f"{path}/checkpoints/last.ckpt"
            )
        spec = replace(spec, path=str(path / MODEL))
    spec.check("model")
    yield spec
