"""``MidTrainingModule``: the only training step in the project."""

from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.data.batch import Batch
from remit_lit.errors import require_range
from remit_lit.losses import LossKernel
from remit_lit.models.loss_head import Recomputed, check_recomputed, compile_body, recompute_activations
from remit_lit.models.spec import ModelSpec
from remit_lit.models.token_scores import TokenScores
from remit_lit.reference.choice import Choice
from remit_lit.reference.reading import check_reads
from remit_lit.reference.reference import InitialPolicy, LiveReference, Reference
from remit_lit.training.datamodule import PackedData
from remit_lit.training.distillation import Distillation
from remit_lit.training.engines import check_sharded, check_strategy, global_weights, restore_frequencies
from remit_lit.training.first_pass import FirstPass
from remit_lit.training.frozen import FrozenModels
from remit_lit.training.objective import WeighedBefore, WeightedLoss, policy_nll, weighted_loss
from remit_lit.training.optimization import (
    Horizon,
    Linear,
    NoDecay,
    OptimizerCallable,
    Schedule,
    check_length,
    check_optimizer,
    parameter_groups,
)
from remit_lit.training.optimizer_states import OptimizerStates
from remit_lit.training.policy_computation import settled_policy
from remit_lit.training.steps import OptimizerSteps
from remit_lit.training.validation import SourceMeans
from remit_lit.training.window import Verdict, Window
from remit_lit.weighting import NextTokenPrediction, TokenWeighting


class MidTrainingModule(OptimizerSteps):
    """Mid-trains a causal language model with weighted token losses.

    Args:
        policy: the model in training.
        optimizer: any torch optimizer by class_path; lr is the peak learning rate.
        horizon: length of the run, in optimizer steps or tokens; the learning rate anneals over it.
        weighting: the strategy that weighs tokens; null is plain next-token prediction.
        reference: the frozen RL-tuned model that the strategy compares with: a live model, or a column of its scores,
            which costs no forward pass. Loaded only if the strategy or the distillation term needs it.
        base: the frozen model before mid-training. Give one to compare the reference with that model instead of with
            the policy as it trains; MiniPLM's choice of rows takes the initial policy by default.
        distillation: adds a distillation term; needs a live reference, or a column of its most likely tokens.
        schedule: how the learning rate anneals; null is linear to zero.
        no_decay: kinds of parameters that get no weight decay: embeddings, vectors (norms and biases). Name those that
            had none in the model's pre-training.
        z_loss: coefficient of the mean squared log-normaliser over all counted tokens, whatever their weights, which
            keeps logits from drifting; 0 is off. Use the value of the model's pre-training (OLMo 2: 1e-5).
        neutral_tokens: give BOS, EOS and neutral_token_ids weight 1 and leave them out of centring and ranking. False
            weighs every token alike, as eq. 4 of the ReMiT paper does, whatever neutral_token_ids says.
        neutral_token_ids: ids of further tokens to treat like that, e.g. those of a chat template.
        activation_checkpointing: recompute activations in backward; less memory for about a third more time. For models
            that do not fit otherwise. A number n does so for every n-th layer, ``attention`` for the attention of each:
            less of both.
        compile: torch.compile the policy; faster steps after some minutes of compilation. True takes its body as one
            graph; layers takes each layer by itself, where layers that are alike are compiled once.
        compile_loss: torch.compile what the loss computes of the logits, the softmax and its gradient, so that fewer
            passes go over them.
        loss_kernel: whose fused kernel computes each token's loss on a GPU, liger or cut_cross_entropy (extra kernels);
            null takes the package's own functions. Kernels give NLLs alone: no z-loss, no entropy of the policy.
        matmul_precision: of float32 matrix products on a GPU: highest, or high or medium, which take TF32 and bfloat16
            for 32-true. Null leaves torch's setting, highest.
        optimizer_states: checkpoint of another run, e.g. runs/NAME/checkpoints/last.ckpt, whose optimizer states
            (AdamW's moments) this run begins with, at step 0 of its own schedule; model.policy must be the model of
            that checkpoint. Null begins with none.
    """

    def __init__(
        self,
        policy: ModelSpec,
        optimizer: OptimizerCallable,
        horizon: Horizon,
        weighting: TokenWeighting | None = None,
        reference: Reference | None = None,
        base: Reference | None = None,
        distillation: Distillation | None = None,
        schedule: Schedule | None = None,
        no_decay: list[NoDecay] | None = None,
        z_loss: float = 0.0,
        neutral_tokens: bool = True,
        neutral_token_ids: list[int] | None = None,
        activation_checkpointing: Recomputed = False,
        compile: bool | Literal["layers"] = False,
        compile_loss: bool = False,
        loss_kernel: LossKernel | None = None,
        matmul_precision: Literal["highest", "high", "medium"] | None = None,
        optimizer_states: str | None = None,
    ) -> None:
        super().__init__()
        policy.check("model.policy")
        horizon.check()
        require_range("model.z_loss", z_loss, 0.0, float("inf"), include_low=True)
        check_optimizer(optimizer)
        check_recomputed("model.activation_checkpointing", activation_checkpointing)
        self.spec, self.optimizer, self.horizon = policy, optimizer, horizon
        self.weighting = weighting or NextTokenPrediction()
        self.reference, self.distillation = reference, distillation
        self.base = base or (InitialPolicy() if self.weighting.selects_rows else None)
        if isinstance(base, LiveReference) and not isinstance(base, InitialPolicy):
            base.field = "model.base.init_args.model"
        self.frozen = FrozenModels(self.weighting, self.reference, self.base, self.distillation)
        weighs_steps = self.weighting.scope == "step"
        self.first_pass = FirstPass(self.weighting, self.reference, self.base) if weighs_steps else None
        self.schedule, self.no_decay, self.z_loss = schedule or Linear(), no_decay or [], z_loss
        self.neutral_tokens, self.neutral_token_ids = neutral_tokens, neutral_token_ids or []
        self.activation_checkpointing, self.compile_policy = activation_checkpointing, compile
        self.compile_loss, self.loss_kernel, self.matmul_precision = compile_loss, loss_kernel, matmul_precision
        self.optimizer_states = None if optimizer_states is None else OptimizerStates(optimizer_states)
        self.policy: PreTrainedModel | None = None
        self.tokenizer: PreTrainedTokenizerBase | None = None
        self.num_steps = 0
        self.neutral_ids: Tensor
        self.last_loss: WeightedLoss | None = None
        self.means = SourceMeans()
        self.register_buffer("neutral_ids", torch.zeros(0, dtype=torch.long), persistent=False)
        self._weighed: list[WeighedBefore] = []

    @property
    def data(self) -> PackedData:
        """The run's data module."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, PackedData), "MidTrainingModule trains on PackedData"
        return data

    @property
    def references(self) -> list[Reference]:
        """The frozen models that this run needs; others of the config are never loaded."""
        return self.frozen.needed(chooses_rows=self.weighting.selects_rows and self.data.subset is None)

    @property
    def columns(self) -> list[str]:
        """Names of the score columns that training reads."""
        chooses_rows = self.weighting.selects_rows and self.data.subset is None
        return list({*self.frozen.columns(chooses_rows=chooses_rows), *self.weighting.columns})

    @property
    def progress(self) -> float:
        """Share of the run's optimizer steps that are done, in [0, 1)."""
        return self.global_step / max(1, self.num_steps)

    def check(self, stage: str) -> None:
        """Refuse a policy, references, rows and a trainer that do not fit each other; nothing is loaded.

        What ``attn_implementation: auto`` stands for is settled here.

        Raises:
            ConfigError: naming the field, what it got and what would be right.
        """
        trainer, manifest = self.trainer, self.data.manifest
        check_reads("model.policy", self.spec, manifest)
        if stage != "fit":
            return
        device, packed = trainer.strategy.root_device.type, self.data.document_attention
        loss: Any = {"z_loss": self.z_loss, "compiles": self.compile_loss}
        self.spec = settled_policy(self.spec, trainer, self.weighting, self.loss_kernel, packed=packed, **loss)
        assert self.data.train_rows is not None, "the data are set up first"
        facts = {name: column.facts for name, column in self.data.train_rows.columns.items()}
        for reference in self.references:
            reference.check(self.spec, manifest)
            reference.check_columns(facts)
            if isinstance(reference, LiveReference):
                reference.settle_attention(device, packed=packed)
            check_sharded(reference, trainer.strategy)
        check_strategy(trainer)
        if self.optimizer_states is not None:
            self.optimizer_states.check(self.spec, self.optimizer, self.no_decay, trainer.strategy)
        steps = check_length(trainer, self.horizon, self.schedule, self.tokens_per_step)
        self.data.check_passes(self.weighting, steps * self.tokens_per_step // manifest.sequence_length)

    def setup(self, stage: str) -> None:
        self.check(stage)
        self.tokenizer = self.spec.load_tokenizer()
        self.neutral_ids = self.neutral_of(self.tokenizer).to(self.device)
        self.means = SourceMeans(self.data.manifest.sources.get("validation", []))
        if stage == "fit":
            self.num_steps = self.horizon.in_steps(self.tokens_per_step)
            if self.trainer.max_steps == -1:
                self.trainer.fit_loop.epoch_loop.max_steps = self.num_steps

    def neutral_of(self, tokenizer: PreTrainedTokenizerBase) -> Tensor:
        """Ids of tokens that get weight 1 and are left out of centring and ranking, ascending, int64 [ids]."""
        neutral = [tokenizer.bos_token_id, tokenizer.eos_token_id, *self.neutral_token_ids]
        ids = sorted({i for i in neutral if i is not None}) if self.neutral_tokens else []
        return torch.tensor(ids, dtype=torch.long)

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimizer step over all ranks and accumulated micro-batches."""
        rows = self.data.batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches
        return rows * self.data.manifest.sequence_length

    def configure_model(self) -> None:
        if self.policy is not None:
            return
        if self.matmul_precision is not None:
            torch.set_float32_matmul_precision(self.matmul_precision)
        policy = self.spec.load("model.policy").train()
        recompute_activations(policy, self.activation_checkpointing)
        if self.compile_policy:
            compile_body(policy, by_layer=self.compile_policy == "layers")
        self.policy = policy

    def configure_optimizers(self) -> Any:
        assert self.policy is not None
        optimizer = self.optimizer(parameter_groups(self.policy, self.no_decay))
        if self.optimizer_states is not None and self.trainer.ckpt_path is None:
            self.optimizer_states.load(self.policy, optimizer)
        scheduler = LambdaLR(optimizer, lambda step: self.schedule.factor(step, self.num_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_fit_start(self) -> None:
        restore_frequencies(self)
        rows = self.data.batch_size * self.trainer.accumulate_grad_batches
        verdict = Verdict(self.weighting, self.frozen.weighing, self.device)
        self.begin_steps(Window(rows, self.device), verdict, self.tokens_per_step)
        for reference in self.references:
            reference.load(self.spec, self.device)

    def on_rows_chosen(self, choice: Choice | None) -> None:
        """Report which rows are trained on, None being all, and release the models that only chose."""
        report = ["all rows kept"] if choice is None else choice.summary()
        rank_zero_info("\n".join([f"{type(self.weighting).__name__}: {report[0]}", *report[1:]]))
        if not self.weighting.needs_reference and not self.frozen.teaching:
            for reference in self.references:
                reference.release()

    def forward(self, batch: Batch) -> Tensor:
        """NLL of each target in nats, [batch, time]."""
        assert self.policy is not None
        return policy_nll(self.policy, batch)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """At the start of a step, free the last one's gradients and weigh this one's tokens where that is due by step.

        Lightning would keep the gradients while the activations are at their peak.
        """
        accumulated = self.trainer.accumulate_grad_batches
        if self.policy is None or batch_idx % accumulated:
            return
        self.policy.zero_grad(set_to_none=True)
        if self.first_pass is not None:
            batches = [ahead.to(self.device) for ahead in self.data.train_batches(batch_idx, accumulated)]
            with self.trainer.precision_plugin.forward_context():
                engine, progress = self.trainer.strategy, self.progress
                self._weighed = self.first_pass(self.policy, batches, self.neutral_ids, engine, progress)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        assert self.policy is not None
        before = self._weighed[batch_idx % self.trainer.accumulate_grad_batches] if self._weighed else None
        weighs = self.weighting.needs_reference and before is None
        asked = self.frozen.reads_entropy
        reference = self.reference.scores(batch, with_entropy=asked) if weighs and self.reference else TokenScores(None)
        loss = weighted_loss(
            self.policy,
            batch,
            self.weighting,
            neutral_ids=self.neutral_ids,
            reference_nll=reference.nll,
            reference_entropy=reference.entropy,
            base_nll=self.base.nll(batch) if weighs and self.base is not None else None,
            progress=self.progress,
            z_loss=self.z_loss,
            distillation=self.distillation,
            teacher=self.reference if isinstance(self.reference, LiveReference) else None,
            weigh_globally=partial(global_weights, self.trainer.strategy),
            before=before,
            compiled=self.compile_loss,
            kernel=self.loss_kernel,
        )
        self.window.add(loss, batch.rows.tolist(), len(self.frozen.weighing))
        self.last_loss = replace(loss, total=loss.total.detach())
        return loss.total / loss.weights.numel()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.means.update(self(batch), batch)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self.means.log(self, "val")

    def on_test_epoch_end(self) -> None:
        self.means.log(self, "test")
