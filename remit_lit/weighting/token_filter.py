"""Token filtering by the labels of a classifier (arXiv:2601.21571)."""

from torch import Tensor

from remit_lit.errors import require_range
from remit_lit.weighting.base import TokenSignals, TokenWeighting


class TokenFilter(TokenWeighting):
    """Leave tokens out of the loss that a classifier says belong to what is not to be learnt.

    ``w[t] = 0 if label[t] >= threshold else 1``: the paper's "loss masking" (section 3.1), in which the model still
    reads the token. Its other variant, which replaces the token by a special one, is a matter of the text. The weighted
    losses are divided by the number of kept tokens (ours).

    Args:
        column: name of the column of labels beside the rows, e.g. a classifier's probabilities.
        threshold: labels from here on are filtered. The paper takes the one of the best F1 on held-out text (section
            3.1), and a lower one where labels are poor (section 6.2).
    """

    def __init__(self, column: str = "labels", threshold: float = 0.5) -> None:
        require_range("TokenFilter.threshold", threshold, float("-inf"), float("inf"))
        self.column, self.threshold = column, threshold
        self.columns = (column,)

    def weights(self, signals: TokenSignals) -> Tensor:
        """1 for kept and neutral tokens, 0 elsewhere, float32 [batch, time]."""
        return signals.settle((signals.columns[self.column] < self.threshold).float())

    def normalizer(self, weights: Tensor, mask: Tensor) -> Tensor:
        """The number of kept tokens."""
        return weights.sum()
