"""Where the NLLs of a frozen model come from: a live model, or a column scored beforehand."""

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from remit_lit.data.batch import Batch
from remit_lit.errors import ConfigError, NonFiniteError
from remit_lit.models.attention import settled_attention
from remit_lit.models.loss_head import hidden_states, loss_head
from remit_lit.models.shards import load_sharded
from remit_lit.models.spec import ModelSpec
from remit_lit.models.token_scores import TokenScores, token_scores
from remit_lit.models.top_tokens import TopTokens
from remit_lit.reference.reading import check_reads

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from remit_lit.data.columns import ColumnFacts
    from remit_lit.data.manifest import Manifest

Reader = Callable[["PreTrainedModel", Tensor, Tensor], TokenScores | TopTokens]


class OutputEmbedding(NamedTuple):
    """Of a model, as a linear map from hidden states to logits.

    Attributes:
        weight: [vocab, dim].
        bias: [vocab]; None where the model has none.
    """

    weight: Tensor
    bias: Tensor | None


class HiddenStates(NamedTuple):
    """What the logits of a batch are computed from.

    Attributes:
        hidden: last hidden states, [batch, time, dim].
        head: the output embedding.
    """

    hidden: Tensor
    head: OutputEmbedding


class Reference(ABC):
    """A frozen model that scores each token.

    It is no submodule of the LightningModule: it stays out of the optimizer, of checkpoints and of ZeRO-3's
    partitioning.

    Attributes:
        column: the score column to load beside the rows; None where the model runs live.
        knows_entropy: ``scores`` can give entropies.
    """

    column: str | None = None
    knows_entropy: bool = False

    def columns(self, *, with_entropy: bool) -> list[str]:
        """Names of the score columns that ``scores`` reads; none where the model runs live."""
        return []

    def check_columns(self, known: Mapping[str, "ColumnFacts"]) -> None:  # noqa: B027
        """Refuse columns that hold something else than this reads of them, given the facts of all, by name."""

    def check(self, policy: ModelSpec, manifest: "Manifest") -> None:  # noqa: B027
        """Refuse a reference that does not fit the rows, before any weights are loaded."""

    def load(self, policy: ModelSpec, device: torch.device) -> None:  # noqa: B027
        """Load what ``nll`` needs; called once before training."""

    def release(self) -> None:  # noqa: B027
        """Give back the memory of what ``load`` loaded."""

    @abstractmethod
    def nll(self, batch: Batch) -> Tensor:
        """NLL of each target in nats, no gradient, [batch, time]; not looked at, see :meth:`require_finite`."""

    def require_finite(self, nll: Tensor, batch: Batch) -> None:
        """Raise NonFiniteError for NLLs, [batch, time], that are NaN or infinite at counted tokens; names the rows."""
        broken = (~torch.isfinite(nll) & batch.mask).any(dim=1).tolist()
        rows = [row for row, is_broken in zip(batch.rows.tolist(), broken, strict=True) if is_broken]
        if rows:
            raise NonFiniteError(self.complaint(rows))

    def complaint(self, rows: list[int]) -> str:
        """What is wrong where the NLLs of these rows are not finite, and what to do."""
        return f"reference {self}: NaN or infinite at counted tokens of row(s) {rows}; check its weights"

    def scores(self, batch: Batch, *, with_entropy: bool) -> TokenScores:
        """The NLLs and, where they are asked for, the entropies, which needs ``knows_entropy``."""
        assert not with_entropy, "nothing is known of the distributions"
        return TokenScores(self.nll(batch))


class CachedReference(Reference):
    """NLLs from a column that ``score`` wrote beside the rows.

    Args:
        column: name of the column, e.g. nll_rl.
        entropy_column: name of a column of the same model's entropies, e.g. entropy_rl, for a strategy that reads them;
            ``score --entropy_column`` writes one beside the NLLs.
    """

    def __init__(self, column: str, entropy_column: str | None = None) -> None:
        self.column: str = column
        self.entropy_column = entropy_column
        self.knows_entropy = entropy_column is not None

    def __str__(self) -> str:
        return f"column {self.column}"

    def columns(self, *, with_entropy: bool) -> list[str]:
        return [self.column, *([self.entropy_column] if with_entropy and self.entropy_column is not None else [])]

    def check_columns(self, known: Mapping[str, "ColumnFacts"]) -> None:
        """Raise ConfigError for entropies in place of NLLs, NLLs in place of entropies, and those of two models."""
        nll = known[self.column]
        if nll.entropy:
            raise ConfigError(
                f"model.reference.column: {self.column!r} holds entropies, not NLLs; name the column of the NLLs"
            )
        if self.entropy_column is None or self.entropy_column not in known:
            return
        entropy, what = known[self.entropy_column], f"model.reference.entropy_column: {self.entropy_column!r}"
        if not entropy.entropy:
            raise ConfigError(f"{what} holds no entropies; {self.entropy_command}")
        if entropy.model != nll.model:
            raise ConfigError(f"{what} was scored by another model than {self.column!r}; {self.entropy_command}")

    @property
    def entropy_command(self) -> str:
        """What writes the column of entropies, in words."""
        fields = f"--rows ROWS --model.path MODEL --column {self.column} --entropy_column NAME"
        return f"`python -m remit_lit score {fields}` writes one"

    def nll(self, batch: Batch) -> Tensor:
        """The column's values, float32 [batch, time]."""
        return batch.nll(self.column)

    def scores(self, batch: Batch, *, with_entropy: bool) -> TokenScores:
        """The values of both columns, or of the first alone."""
        if not with_entropy:
            return TokenScores(self.nll(batch))
        assert self.entropy_column is not None, "nothing is known of the distributions"
        return TokenScores(self.nll(batch), batch.nll(self.entropy_column))

    def complaint(self, rows: list[int]) -> str:
        return f"reference column {self.column!r}: NaN or infinite at counted tokens of row(s) {rows}; score them again"


class LiveReference(Reference):
    """A frozen model that scores each batch: one more forward pass a step.

    Args:
        model: the frozen model, in its own dtype.
        device: where it runs, e.g. cuda:1, to leave the policy's device to the policy; null is that device.
        sharded: shard its weights over the ranks of ZeRO, for a model too large for one device; slower.

    Raises:
        ConfigError: a sharded reference is given a device.
    """

    knows_entropy = True

    def __init__(self, model: ModelSpec, device: str | None = None, sharded: bool = False) -> None:
        if sharded and device is not None:
            raise ConfigError(
                f"model.reference.device: got {device}, but a sharded reference is on all devices; give null"
            )
        self.spec, self.device, self.sharded = model, device, sharded
        self.field = "model.reference.init_args.model"  # names it in messages; who takes it from elsewhere sets it
        self._model: PreTrainedModel | None = None

    def __str__(self) -> str:
        return self.spec.path or "a fresh model"

    def check(self, policy: ModelSpec, manifest: "Manifest") -> None:
        """Raise ConfigError unless the reference reads the rows' tokens and their length."""
        check_reads(self.field, self.spec, manifest)

    def settle_attention(self, device: str, *, packed: bool) -> None:
        """Settle how the model attends on its device, before it is loaded.

        Args:
            device: the type of device that the policy trains on: cpu, cuda.
            packed: whether documents in a row are kept apart.

        Raises:
            ConfigError: that implementation cannot run there.
        """
        is_half = self.spec.dtype != "float32"
        place = torch.device(self.device).type if self.device else device
        self.spec = settled_attention(self.field, self.spec, place, packed=packed, is_half=is_half, trains=False)

    def load(self, policy: ModelSpec, device: torch.device) -> None:
        if self.sharded:
            self._model = self._model or load_sharded(self.spec, self.field)
            return
        if self._model is None:
            self._model = self.spec.load(self.field).requires_grad_(False)
        self._model.to(torch.device(self.device) if self.device else device)  # type: ignore[arg-type]

    def release(self) -> None:
        self._model = None

    @property
    def model(self) -> "PreTrainedModel":
        """The frozen model."""
        assert self._model is not None, "load() comes first"
        return self._model

    def nll(self, batch: Batch) -> Tensor:
        """NLL of each target in nats, float32 [batch, time], on the batch's device; no logits of the batch are held."""
        nll = self.scores(batch, with_entropy=False).nll
        assert nll is not None
        return nll

    def scores(self, batch: Batch, *, with_entropy: bool) -> TokenScores:
        """As :meth:`nll`, and the entropies from the same logits."""
        found = self.read(batch, partial(token_scores, with_entropy=with_entropy))[0]
        assert isinstance(found, TokenScores)
        return found

    def read(self, batch: Batch, *readers: Reader) -> list[TokenScores | TopTokens]:
        """What readers make of one forward pass: of the model, its last hidden states [batch, time, dim] and targets.

        Their tensors come on the batch's device.
        """
        device, targets = batch.targets.device, batch.targets.to(self.model.device)
        with self._frozen(), torch.autocast(device.type, enabled=False):
            hidden = self._hidden_states(batch)
            found = [reader(self.model, hidden, targets) for reader in readers]
        return [type(each)(*(_kept(values, device) for values in each)) for each in found]

    def hidden_states(self, batch: Batch) -> "HiddenStates":
        """Last hidden states and the output embedding that reads them, on the batch's device."""
        device, head = batch.targets.device, loss_head(self.model)
        with self._frozen(), torch.autocast(device.type, enabled=False):
            hidden = self._hidden_states(batch)
        bias = None if head.bias is None else head.bias.to(device)
        return HiddenStates(hidden.to(device, copy=True), OutputEmbedding(head.weight.to(device), bias))

    def _frozen(self) -> Any:
        # ZeRO keeps gathered weights from one call to the next, which tensors of inference mode do not survive.
        return torch.no_grad() if self.sharded else torch.inference_mode()

    def _hidden_states(self, batch: Batch) -> Tensor:
        moved = {name: value.to(self.model.device) for name, value in batch.inputs.items()}
        return hidden_states(self.model, moved, packed=batch.packed)

    def weights_hash(self) -> str:
        """Hash of the model's weights."""
        digest = hashlib.blake2b(digest_size=16)
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()


class InitialPolicy(LiveReference):
    """A frozen copy of the policy as it is before training."""

    def __init__(self) -> None:
        self.device, self.sharded, self._model = None, False, None
        self.field = "model.policy"

    def __str__(self) -> str:
        return "the initial policy"

    def check(self, policy: ModelSpec, manifest: "Manifest") -> None:
        """Raise ConfigError for a fresh policy: its initial weights could not be had again after a resume."""
        if policy.path is None:
            raise ConfigError(
                "model.base: InitialPolicy needs model.policy.path; the initial weights of a fresh policy are not kept"
            )

    def settle_attention(self, device: str, *, packed: bool) -> None:
        """The policy's is its own."""

    def load(self, policy: ModelSpec, device: torch.device) -> None:
        self.spec = copy.copy(policy)
        super().load(policy, device)


def _kept(values: Any, device: torch.device) -> Any:
    """A copy on ``device``: a tensor made in inference mode could not be saved for a backward pass."""
    return None if values is None else values.to(device, copy=True)
