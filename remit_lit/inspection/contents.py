"""Everything that a page shows, as JSON values.

Arrays have a value for each token of each row, about that token: they are those of a batch, which are about the token
predicted at a position, moved on by one. A row's first token, and with documents kept apart each document's, is
predicted by nothing and is not counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from remit_lit import __version__
from remit_lit.data.manifest import Manifest
from remit_lit.inspection.arrays import Arrays
from remit_lit.inspection.excerpt import Excerpt
from remit_lit.inspection.pieces import pieces_of
from remit_lit.inspection.settings import InspectSettings
from remit_lit.inspection.weigh import Weighed
from remit_lit.training.module import MidTrainingModule


@dataclass(frozen=True)
class Strategy:
    """A strategy and what it made of the excerpt.

    Attributes:
        name: of its overlay.
        module: its settings.
        group: rows that it weighs together.
        reference: which of the references is its own; None where it has none.
        weighed: with each policy, in their order.
    """

    name: str
    module: MidTrainingModule
    group: int
    reference: int | None
    weighed: Sequence[Weighed]


def contents(
    settings: InspectSettings,
    excerpt: Excerpt,
    manifest: Manifest,
    tokenizer: PreTrainedTokenizerBase,
    policies: Mapping[str, Tensor],
    references: Sequence[tuple[str, Tensor]],
    strategies: Sequence[Strategy],
) -> dict[str, Any]:
    """What the page reads.

    Args:
        settings: what was asked for.
        excerpt: the rows.
        manifest: of the rows.
        tokenizer: of the rows.
        policies: NLLs in nats by name, in order, [rows, time].
        references: the name of each and its NLLs in nats, [rows, time].
        strategies: in order.
    """
    arrays, rows = Arrays(), excerpt.rows[excerpt.shown]
    mask = excerpt.data.collate(rows).mask

    def of_tokens(values: Tensor, kind: str = "f4") -> dict[str, Any]:
        shown = values[excerpt.shown].cpu()
        return arrays.add(_moved(torch.where(mask, shown, torch.zeros_like(shown))), kind)

    used, places = np.unique(np.stack([row.input_ids for row in rows]), return_inverse=True)
    pieces = pieces_of(tokenizer, used.tolist())
    return {
        "version": __version__,
        "rows": str(excerpt.data.rows_directory),
        "split": settings.split,
        "order": excerpt.place,
        "first": excerpt.first_row,
        "time": manifest.sequence_length,
        "numbers": [int(row.number) for row in rows],
        "sources": manifest.sources[settings.split],
        "documents": [
            [
                [int(source), int(length)]
                for source, length in zip(row.document_sources, row.document_lengths, strict=True)
            ]
            for row in rows
        ],
        "vocabulary": {
            "id": used.tolist(),
            "shown": [piece.shown for piece in pieces],
            "content": [piece.content for piece in pieces],
            "special": [int(piece.is_special) for piece in pieces],
        },
        "tokens": arrays.add(places, "u4"),
        "counted": arrays.add(_moved(mask), "u1"),
        "policies": [{"name": name, "nll": of_tokens(nll)} for name, nll in policies.items()],
        "references": [{"name": name, "nll": of_tokens(nll)} for name, nll in references],
        "strategies": [
            {
                "name": strategy.name,
                "setting": _setting(strategy.module),
                "notes": _notes(strategy.module),
                "group": strategy.group,
                "scope": strategy.module.weighting.scope,
                # As float32, which weights are: only so can one be equal to a bound.
                "bounds": [float(np.float32(bound)) for bound in strategy.module.weighting.bounds or ()],
                "compares": strategy.module.weighting.needs_reference,
                "reference": strategy.reference,
                "neutral": of_tokens(strategy.weighed[0].neutral, "u1"),
                "weighed": [
                    {
                        "weights": of_tokens(weighed.weights),
                        "compared": of_tokens(weighed.compared),
                        "centered": None if weighed.centered is None else of_tokens(weighed.centered),
                    }
                    for weighed in strategy.weighed
                ],
            }
            for strategy in strategies
        ],
        "arrays": arrays.packed(),
    }


def _moved(values: Tensor) -> Tensor:
    """From the position that predicts a token to the token, [rows, time]."""
    return torch.cat([torch.zeros_like(values[:, :1]), values[:, :-1]], dim=1)


def _setting(module: MidTrainingModule) -> str:
    weighting = module.weighting
    given = {name: value for name, value in vars(weighting).items() if isinstance(value, (bool, int, float, str))}
    return f"{type(weighting).__name__}({', '.join(f'{name}={value}' for name, value in given.items())})"


def _notes(module: MidTrainingModule) -> list[str]:
    """What else a run with this strategy does, which no weight shows."""
    notes = []
    if module.weighting.needs_reference and module.base is not None:
        notes.append(f"the reference is compared with {module.base}, not with the policy in training")
    if module.weighting.selects_rows:
        notes.append("it chooses whole rows before training; these are shown whether it would choose them or not")
    if module.distillation is not None:
        notes.append(f"a distillation term stands beside it, with {module.distillation}")
    if not module.neutral_tokens:
        notes.append("no token is neutral")
    return notes
