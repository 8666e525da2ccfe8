"""What a strategy sees of a batch (``TokenSignals``) and what it must answer (``TokenWeighting``)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from remit_lit.errors import ConfigError, NonFiniteError

Signal = Literal["policy_entropy", "reference_entropy"]
"""What costs more than NLLs, and so is computed only for strategies that read it."""


@dataclass(frozen=True)
class TokenSignals:
    """Per-token scores of one batch. Position ``t`` scores the token *predicted* there.

    Attributes:
        policy_nll: negative log-likelihood under the model in training, nats, [batch, time].
        mask: True where a token counts in the loss, [batch, time].
        reference_nll: the same under the frozen reference, nats, [batch, time]; None where no strategy asked for it.
        segment_ids: index of the document within its packed row, >= 0, [batch, time].
        neutral: True where a token counts with weight 1 but is left out of centring and ranking
            (EOS, BOS, template tokens), [batch, time]. Such tokens have extreme excess losses: they would
            drag the mean of a row and with it the weight of every other token.
        targets: ids of the tokens predicted, int64 [batch, time], for strategies that weigh a token by what it is.
        policy_entropy: of the policy's distribution over the next token, nats, [batch, time]; None unless the strategy
            reads it.
        reference_entropy: the same of the reference.
        columns: values of the columns that the strategy names, float32 [batch, time] each, by name.
        progress: share of the run's optimizer steps that are done, in [0, 1).
        is_checked: whoever made the signals looks for broken reference scores himself, without waiting for the device.
    """

    policy_nll: Tensor
    mask: Tensor
    reference_nll: Tensor | None = None
    segment_ids: Tensor | None = None
    neutral: Tensor | None = None
    targets: Tensor | None = None
    policy_entropy: Tensor | None = None
    reference_entropy: Tensor | None = None
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    progress: float = 0.0
    is_checked: bool = False

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All of them by name, those of ``columns`` too, [batch, time] each."""
        return {**{name: value for name, value in vars(self).items() if isinstance(value, Tensor)}, **self.columns}

    def each(self, change: Callable[[Tensor], Tensor]) -> "TokenSignals":
        """The same of other tokens: ``change`` gets each of ``tensors``, in order, and gives what takes its place."""
        own = {name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        columns = {name: change(value) for name, value in self.columns.items()}
        return replace(self, columns=columns, **own)  # type: ignore[arg-type]

    @property
    def ranked(self) -> Tensor:
        """True where a token takes part in centring and ranking: counted and not neutral, [batch, time]."""
        return self.mask if self.neutral is None else self.mask & ~self.neutral

    def excess_loss(self, *, detach: bool = True) -> Tensor:
        """``policy_nll - reference_nll`` in nats, at least float32, 0 where ``mask`` is False, [batch, time].

        Raises:
            ConfigError, NonFiniteError: as :meth:`reference_log_likelihood`.
        """
        policy_nll = self.policy_nll.detach() if detach else self.policy_nll
        reference = self.reference_log_likelihood()
        return torch.where(
            self.mask, policy_nll.to(torch.promote_types(policy_nll.dtype, torch.float32)) + reference, 0.0
        )

    def reference_log_likelihood(self) -> Tensor:
        """``-reference_nll`` in nats, at least float32, 0 where ``mask`` is False, [batch, time].

        Raises:
            ConfigError: there is no reference.
            NonFiniteError: the reference score of a counted token is NaN or infinite; names the rows of the batch. In
                training, where ``is_checked``, the step stops the run instead, and changes no weights.
        """
        if self.reference_nll is None:
            raise ConfigError("model.reference: this strategy compares with a reference model, but got none")
        if not self.is_checked:
            broken = (self.mask & ~torch.isfinite(self.reference_nll)).any(dim=1).tolist()
            rows = [row for row, is_broken in enumerate(broken) if is_broken]
            if rows:
                raise NonFiniteError(f"reference_nll: NaN or infinite at counted tokens of row(s) {rows} of the batch")
        dtype = torch.promote_types(self.reference_nll.dtype, torch.float32)
        return torch.where(self.mask, -self.reference_nll.detach().to(dtype), 0.0)

    def settle(self, weights: Tensor) -> Tensor:
        """Give neutral tokens weight 1 and uncounted tokens weight 0, [batch, time]."""
        return torch.where(self.ranked, weights, self.mask.to(weights.dtype))


@dataclass(frozen=True)
class RowScores:
    """Mean NLL of each packed row under two frozen models, for choosing rows before training.

    Attributes:
        base_nll: under the model before mid-training (MiniPLM's small reference), nats per token, [rows].
        reference_nll: under the RL-tuned model (MiniPLM's teacher), nats per token, [rows].
    """

    base_nll: Tensor
    reference_nll: Tensor

    @property
    def difference(self) -> Tensor:
        """``base_nll - reference_nll``, nats per token, float64 [rows]: how much easier the reference finds a row."""
        return self.base_nll.double() - self.reference_nll.double()


class TokenWeighting(ABC):
    """A token-weighting strategy. To add one, subclass it anywhere and name it by ``class_path``.

    Attributes:
        needs_reference: ``weights`` reads ``reference_nll``.
        selects_rows: ``select_rows`` chooses rows before training.
        signals: what ``weights`` reads beyond NLLs and facts of the tokens; only that is computed.
        columns: names of the columns beside the rows that ``weights`` reads, such as NLLs of further models or labels
            of a classifier.
        scope: which rows :meth:`weights` is given at once, and so what a weight may depend on. "row": some rows, each
            of which must be weighed as if it were alone; the loss then takes one pass. "batch": the rows of one
            micro-batch of all ranks. "step": the rows of an optimizer step, all ranks and micro-batches of it, in the
            order of the data; that takes a forward pass before the step. :mod:`remit_lit.weighting.rho1` compares them.
        detach: weights are constants of the loss. False sends gradients through them, at the price of a second pass;
            not with scope "step".
    """

    needs_reference: ClassVar[bool] = False
    selects_rows: ClassVar[bool] = False
    signals: Collection[Signal] = ()
    columns: Collection[str] = ()
    scope: Literal["row", "batch", "step"] = "row"
    detach: bool = True

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval that weights are clipped to, or None; used for the logged share of clipped tokens."""
        return None

    @abstractmethod
    def weights(self, signals: TokenSignals) -> Tensor:
        """Weights of the tokens' losses, [batch, time]; 0 where ``signals.mask`` is False."""

    def centered(self, signals: TokenSignals) -> Tensor | None:
        """The centred score that a weight is a function of, [batch, time]; None where there is none. For display."""
        return None

    def normalizer(self, weights: Tensor, mask: Tensor) -> Tensor:
        """What the weighted sum is divided by (after summing over ranks and accumulation), a scalar in tokens."""
        return mask.sum()

    def rows_kept(self, num_rows: int) -> int:
        """How many of ``num_rows`` rows ``select_rows`` will keep, known before anything is scored."""
        return num_rows

    def select_rows(self, scores: RowScores) -> Tensor | None:
        """Indices of the rows to train on, ascending, int64 [kept]; None keeps all."""
        return None
