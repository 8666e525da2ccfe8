"""What ``inspect`` is told beside a model and data."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from remit_lit.data.manifest import SPLITS
from remit_lit.errors import ConfigError, not_among, require_at_least


@dataclass
class InspectSettings:
    """What to show, and where.

    Attributes:
        output: HTML file to write; it needs no other file and no network.
        strategies: overlays to compare on the same text, each laid over the config as a further --config would be, e.g.
            baselines/remit and experiments/ablations/unclipped; null is the config's own strategy.
        policies: models to go on to after model.policy, each a stop of the slider: hub ids, directories, checkpoints of
            a run, or the folder of a run, which stands for its checkpoints and its last model. They are loaded as
            model.policy is.
        split: rows to show: train, in the order of training by data.seed; or validation, in the order of the file.
        first_row: place of the first row to show in that order, from 0.
        num_rows: how many rows to show.
        overwrite: replace the file if it exists.
    """

    output: str
    strategies: list[str] | None = None
    policies: list[str] = field(default_factory=list)
    split: Literal["train", "validation"] = "train"
    first_row: int = 0
    num_rows: int = 24
    overwrite: bool = False

    def check(self) -> None:
        """Refuse numbers out of range, and a file that cannot be written or is there already.

        Raises:
            ConfigError: naming the field.
        """
        require_at_least("first_row", self.first_row, 0)
        require_at_least("num_rows", self.num_rows, 1)
        if self.split not in SPLITS:
            raise ConfigError(f"split: {not_among(self.split, SPLITS)}")
        if self.strategies == []:
            raise ConfigError(
                "strategies: got none; give overlays such as baselines/remit, or null for the config's own"
            )
        path = Path(self.output)
        if path.is_dir():
            raise ConfigError(f"output: {path} is a directory; give a file, such as {path / 'weights.html'}")
        if path.exists() and not self.overwrite:
            raise ConfigError(f"output: {path} exists; give another file, or --overwrite=true")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"output: {path} cannot be written ({error.strerror}); give another file") from error


@dataclass
class TrainerFields:
    """The fields of a run's trainer that its weights depend on.

    Attributes:
        accelerator: cpu or gpu; auto uses a GPU if there is one.
        precision: of the policy's forward pass: 32-true, bf16-mixed or bf16-true.
        devices: of a node in training; a strategy that weighs a whole micro-batch or step sees the rows of all of them.
            This command itself takes one.
        num_nodes: of training.
        accumulate_grad_batches: micro-batches of a step.
    """

    accelerator: str = "auto"
    precision: str | int | None = None
    devices: int | str | list[int] = 1
    num_nodes: int = 1
    accumulate_grad_batches: int = 1
