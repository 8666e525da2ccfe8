"""Which frozen models a run needs, and for what."""

from dataclasses import dataclass

from remit_lit.data.columns import of_distributions
from remit_lit.errors import ConfigError
from remit_lit.reference.reference import CachedReference, LiveReference, Reference
from remit_lit.training.distillation import Distillation
from remit_lit.weighting import TokenWeighting


@dataclass(frozen=True, eq=False)
class FrozenModels:
    """The frozen models of a config, of which a run loads those that its strategy or its distillation needs.

    Attributes:
        weighting: the strategy.
        reference: the RL-tuned model.
        base: the model before mid-training.
        distillation: the distillation term, whose teacher is the reference.

    Raises:
        ConfigError: the strategy or the distillation term needs a reference that is not there or does not know what
            they read of it, or a whole step is to be weighed with gradients.
    """

    weighting: TokenWeighting
    reference: Reference | None = None
    base: Reference | None = None
    distillation: Distillation | None = None

    def __post_init__(self) -> None:
        if self.weighting.scope == "step" and not self.weighting.detach:
            raise ConfigError(
                f"model.weighting: {type(self.weighting).__name__} has scope 'step', whose weights come from a pass "
                "without gradient, and detach=False; give another scope, or detach=True"
            )
        if self.reference is None and (self.weighting.needs_reference or self.weighting.selects_rows):
            raise ConfigError(
                f"model.reference: {type(self.weighting).__name__} compares with a reference, but got none; give a "
                "LiveReference (a frozen model) or a CachedReference (a column that `score` wrote)"
            )
        if self.reads_entropy and not (self.reference and self.reference.knows_entropy):
            reads = f"{type(self.weighting).__name__} reads the reference's entropy"
            if isinstance(self.reference, CachedReference):
                raise ConfigError(
                    f"model.reference.entropy_column: missing, and {reads}, which {self.reference} does not hold; "
                    f"{self.reference.entropy_command}, or give a LiveReference"
                )
            raise ConfigError(
                f"model.reference: {reads}, but got {self.reference or 'none'}; give a LiveReference, or a "
                "CachedReference with an entropy_column (`score --entropy_column` writes one)"
            )
        if self.distillation is None or self.distillation.column is not None:
            return
        if not isinstance(self.reference, LiveReference):
            given = type(self.reference).__name__ if self.reference else "none"
            raise ConfigError(
                "model.reference: distillation needs the reference's whole distribution; "
                f"got {given}, give a LiveReference, or model.distillation.column (`score --top_k` writes one)"
            )
        if self.reference.sharded:
            raise ConfigError("model.reference.sharded: got true, but distillation needs a whole reference; give false")

    @property
    def reads_entropy(self) -> bool:
        """Whether the strategy reads the reference's entropy."""
        return "reference_entropy" in self.weighting.signals

    @property
    def weighing(self) -> list[Reference]:
        """Those that score every token of training for the strategy."""
        return self._given(self.reference, self.base) if self.weighting.needs_reference else []

    @property
    def teaching(self) -> list[Reference]:
        """The live teacher, whose hidden states are computed apart from its NLLs."""
        is_live = self.distillation is not None and self.distillation.column is None
        return self._given(self.reference) if is_live else []

    @property
    def choosing(self) -> list[Reference]:
        """Those that score every row before training, where the strategy chooses rows."""
        return self._given(self.reference, self.base) if self.weighting.selects_rows else []

    @property
    def passes_first(self) -> bool:
        """Whether the policy scores each step before it is trained on, as scope "step" needs."""
        return self.weighting.scope == "step" and (self.base is None or not self.weighting.needs_reference)

    def columns(self, *, chooses_rows: bool) -> list[str]:
        """Names of the score columns that stand for frozen models, those of ``needed`` and the teacher's, each once."""
        read = [
            name
            for reference in self.needed(chooses_rows=chooses_rows)
            for name in reference.columns(with_entropy=self.reads_entropy and reference is self.reference)
        ]
        if self.distillation is not None and self.distillation.column is not None:
            read.append(of_distributions(self.distillation.column))
        return list(dict.fromkeys(read))

    def needed(self, *, chooses_rows: bool) -> list[Reference]:
        """Those that are needed in training or, with ``chooses_rows``, before it; each once."""
        return self.weighing or (self.choosing if chooses_rows else []) or self.teaching

    @staticmethod
    def _given(*references: Reference | None) -> list[Reference]:
        return [reference for reference in references if reference is not None]
