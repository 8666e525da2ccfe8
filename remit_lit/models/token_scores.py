"""What a model makes of each target: its NLL, and the entropy of the distribution that it is drawn from."""

from typing import Any, NamedTuple

from torch import Tensor, nn

from remit_lit.losses import token_nll
from remit_lit.models.loss_head import loss_head


class TokenScores(NamedTuple):
    """Scores of the targets of a batch, in nats, [batch, time].

    Attributes:
        nll: negative log-likelihood; None where there is no such model.
        entropy: of the model's distribution over the next token; None unless it is asked for.
    """

    nll: Tensor | None
    entropy: Tensor | None = None


def token_scores(model: nn.Module, hidden: Tensor, targets: Tensor, *, with_entropy: bool) -> TokenScores:
    """Score ``targets`` from a model's last hidden states; no logits of the batch are held.

    Args:
        model: that :meth:`ModelSpec.load` built.
        hidden: its last hidden states, [batch, time, dim].
        targets: token predicted at each position, [batch, time].
        with_entropy: also give the entropy, from the same logits.
    """

    def score(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Any:
        found = token_nll(hidden, weight, targets, bias=bias, return_entropy=with_entropy)
        return found if with_entropy else (found,)

    return TokenScores(*loss_head(model)(hidden, score))
