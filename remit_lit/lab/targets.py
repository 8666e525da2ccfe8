"""What the targets of the lab's rows are: the kind of each, and the operator that made a trace's result."""

import torch
from torch import Tensor

from remit_lit.lab.task import OPERATORS, TokenKind, kinds_within
from remit_lit.lab.tokenizer import lab_vocabulary

NO_KIND = -1
_RESULTS = (TokenKind.CORRECT_RESULT, TokenKind.WRONG_RESULT)
_CHARACTERS = {index: character for character, index in lab_vocabulary().items()}
_NO_TARGET = " "  # no character of the lab


def target_kinds(targets: Tensor) -> tuple[Tensor, Tensor]:
    """The kind of each target, and of each result in a trace the rank of its operator, 0 for the most frequent.

    Only what belongs to a whole document of the task has a kind: general text and noise look alike from within.

    Args:
        targets: token ids of the lab's tokenizer, negative where there is none, int64 [batch, time].

    Returns:
        Both int64 [batch, time], ``NO_KIND`` elsewhere.
    """
    kinds, ranks = [], []
    for row in targets.tolist():
        text = "".join(_CHARACTERS.get(target, _NO_TARGET) for target in row)
        found = kinds_within(text)
        kinds.append([NO_KIND if kind is None else int(kind) for kind in found])
        ranks.append(
            [OPERATORS.index(text[place - 2]) if kind in _RESULTS else NO_KIND for place, kind in enumerate(found)]
        )
    return torch.tensor(kinds, device=targets.device), torch.tensor(ranks, device=targets.device)
