"""Which rows to show, and with them those that a strategy weighs in the same micro-batch or step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from remit_lit.data.batch import Batch
from remit_lit.data.rows import PackedRows, Row, ShuffledBatches
from remit_lit.errors import ConfigError
from remit_lit.inspection.settings import InspectSettings, TrainerFields
from remit_lit.training.datamodule import PackedData
from remit_lit.training.planned import num_devices
from remit_lit.weighting import TokenWeighting


@dataclass(frozen=True)
class Excerpt:
    """Rows of whole micro-batches or steps, of which some are shown.

    Attributes:
        data: makes batches of them.
        rows: in order.
        shown: which of them are shown.
        first_row: place of the first that is shown, from 0, in the order of ``place``.
        place: what the rows are counted in, for people.
    """

    data: PackedData
    rows: Sequence[Row]
    shown: slice
    first_row: int
    place: str

    def batches(self, size: int, device: torch.device) -> Iterator[Batch]:
        """All rows, ``size`` at a time, on ``device``."""
        for start in range(0, len(self.rows), size):
            yield self.data.collate(self.rows[start : start + size]).to(device)


def rows_weighed_together(weighting: TokenWeighting, data: PackedData, trainer: TrainerFields) -> int:
    """How many rows of training a strategy is given at once, on all ranks."""
    if weighting.scope == "row":
        return data.batch_size
    micro_batch = data.batch_size * num_devices(trainer.devices) * trainer.num_nodes
    return micro_batch * (trainer.accumulate_grad_batches if weighting.scope == "step" else 1)


def take(packed: PackedRows, data: PackedData, settings: InspectSettings, group: int) -> Excerpt:
    """The rows of ``settings``, and around them whole groups of ``group`` rows, as far as there are any.

    Training rows are in the order of training, which goes on with another pass; others in that of the file.

    Raises:
        ConfigError: there are not that many rows.
    """
    first, stop = settings.first_row, settings.first_row + settings.num_rows
    if stop > len(packed):
        left = f"give at most {len(packed) - first}" if first < len(packed) else "give a smaller first_row"
        raise ConfigError(
            f"num_rows: got {settings.num_rows} from first_row {first} on, but there are {len(packed)} "
            f"{settings.split} rows in {data.rows_directory}; {left}"
        )
    start, end = first // group * group, -(-stop // group) * group
    if settings.split == "train":
        order = ShuffledBatches(len(packed), 1, end, data.seed, stages=data.stages_of(packed))
        numbers = [order[position][0] for position in range(start, end)]
        place = f"the order of training, data.seed {data.seed}"
    else:
        numbers, place = list(range(start, min(end, len(packed)))), "the order of the file"
    return Excerpt(data, packed.__getitems__(numbers), slice(first - start, stop - start), first, place)
