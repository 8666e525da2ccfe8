"""Engines: DeepSpeed ZeRO under Lightning, and what a step needs to know of all ranks whatever the engine."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    ParallelStrategy,
    SingleDeviceStrategy,
    Strategy,
)
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor, nn

from remit_lit.errors import ConfigError
from remit_lit.reference.reference import Reference
from remit_lit.runs.checkpoint import aside_of, begin, discard, finish
from remit_lit.runs.checkpoint_io import FACTS
from remit_lit.runs.convert import UNIVERSAL
from remit_lit.weighting import TokenSignals, TokenWeighting
from remit_lit.weighting.checks import checked_weights

# Lightning's values for DeepSpeed: 2e8 elements.
_BUCKETS = {"reduce_bucket_size": 200_000_000, "allgather_bucket_size": 200_000_000}


class ZeRO(DeepSpeedStrategy):
    """DeepSpeed ZeRO (arXiv:1910.02054): optimizer states, gradients and weights sharded over the ranks.

    It gives the losses of one process with the same global batch. On CPUs it runs over gloo, which is how it is tested.

    Args:
        stage: what is sharded: 1 optimizer states, 2 gradients too, 3 weights too. Higher stages take less memory and,
            at 3, more communication; take the lowest that fits.
        offload_optimizer: keep optimizer states, and do the step, in CPU memory; slower, for models that do not fit
            otherwise.
        offload_parameters: keep sharded weights in CPU memory; slower still, and needs stage 3.
        timeout: seconds that a rank waits for the others before it ends with an error; more than the longest
            checkpoint.
        options: further fields of DeepSpeed's zero_optimization section, e.g. stage3_param_persistence_threshold.

    Raises:
        ConfigError: the stage does not exist, DeepSpeed is not installed, or parameters are to be offloaded unsharded.
    """

    error: OSError | None = None

    def __init__(
        self,
        stage: int,
        offload_optimizer: bool = False,
        offload_parameters: bool = False,
        timeout: float = 1800.0,
        options: dict[str, Any] | None = None,
    ) -> None:
        if stage not in (1, 2, 3):
            raise ConfigError(f"trainer.strategy.stage: got {stage}; give 1, 2 or 3")
        if offload_parameters and stage != 3:
            raise ConfigError(f"trainer.strategy.offload_parameters: got true at stage {stage}; it needs stage 3")
        zero: dict[str, Any] = {"stage": stage, **_BUCKETS, **(options or {})}
        if offload_optimizer:
            zero["offload_optimizer"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        if offload_parameters:
            zero["offload_param"] = {"device": "cpu", "pin_memory": torch.cuda.is_available()}
        config = {
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            # Only for DeepSpeed's own throughput log; Lightning would open the training data to find it.
            "train_micro_batch_size_per_gpu": 1,
            # DeepSpeed would sum the gradients of micro-batches and of ranks in the weights' type.
            "data_types": {"grad_accum_dtype": "fp32"},
            "communication_data_type": "fp32",
        }
        try:
            super().__init__(config=config, timeout=timedelta(seconds=timeout))
        except ImportError as error:
            raise ConfigError(
                f"trainer.strategy: ZeRO needs DeepSpeed; pip install 'remit_lit[deepspeed]' ({error})"
            ) from error
        self.stage = stage

    def setup_environment(self) -> None:
        if not isinstance(self.accelerator, CPUAccelerator):
            super().setup_environment()
            return
        from deepspeed.ops import __compatible_ops__

        # Lightning accepts GPUs only and DeepSpeed wants a device index; the shared-memory op would be compiled first.
        self.parallel_devices = [torch.device("cpu", index) for index in range(self.num_processes)]
        __compatible_ops__["deepspeed_shm_comm"] = False
        DDPStrategy.setup_environment(self)  # type: ignore[arg-type]

    def setup(self, trainer: pl.Trainer) -> None:
        super().setup(trainer)
        optimizer: Any = getattr(self.model, "optimizer", None)
        if _sums_whole_gradients(optimizer):
            from deepspeed.checkpoint.constants import ZERO_STAGE

            # Without it DeepSpeed does not know its own checkpoint for one of ZeRO.
            state_of = optimizer.state_dict
            optimizer.state_dict = lambda: {**state_of(), ZERO_STAGE: self.stage}

    @contextmanager
    def model_sharded_context(self) -> Iterator[None]:
        """Within it transformers builds and loads models shard by shard, at stage 3."""
        from transformers.integrations.deepspeed import HfDeepSpeedConfig

        self._init_config_if_needed()
        # transformers looks at the living instance, so that models loaded later are whole.
        shards = HfDeepSpeedConfig(self.config) if self.stage == 3 else None
        with super().model_sharded_context():
            yield
        del shards

    def read_universal(self) -> None:
        """Go on from a checkpoint that ``convert`` made."""
        assert isinstance(self.config, dict)
        self.config["checkpoint"] = {"load_universal": True}

    def backward(self, closure_loss: Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> Tensor:
        """The loss is divided by the accumulated micro-batches once: by Lightning, not by DeepSpeed as well."""
        return super().backward(closure_loss, optimizer, *args, scale_wrt_gas=False, **kwargs)

    def scale_gradients(self, factor: float) -> None:
        """Multiply the gradients by ``factor`` within the next step, before they are clipped."""
        optimizer = self.deepspeed_engine.optimizer
        if _sums_whole_gradients(optimizer):
            torch._foreach_mul_(optimizer.fp32_groups_gradients_flat, factor)
        else:
            optimizer.override_loss_scale(1.0 / factor)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> Any:
        result = super().optimizer_step(*args, **kwargs)
        if not _sums_whole_gradients(self.deepspeed_engine.optimizer):
            self.deepspeed_engine.optimizer.override_loss_scale(1.0)
        return result

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Every rank writes its shards aside; then rank 0 describes and renames the directory."""
        path, facts = Path(self.broadcast(filepath)), checkpoint.pop(FACTS, {})
        self.error = None
        if self.is_global_zero:
            begin(path)
        self.barrier()
        try:
            super().save_checkpoint(checkpoint, aside_of(path), storage_options)
        except (OSError, RuntimeError) as error:  # torch's word for a file that could not be written to its end
            self.error = OSError(str(error).partition("\n")[0])
        is_whole = self.reduce_boolean_decision(self.error is None)
        if self.is_global_zero:
            try:
                if is_whole:
                    finish(path, facts)
            except OSError as error:
                self.error = error
            if self.error is not None or not is_whole:
                self.error = self.error or OSError("another rank's shard could not be written")
                discard(path)
        self.barrier()

    @property
    def grad_norm(self) -> Tensor:
        """2-norm of the gradients of the last step before clipping; infinite where it was not finite, and nothing was
        changed."""
        return torch.as_tensor(float(self.deepspeed_engine.get_global_grad_norm()))


def _sums_whole_gradients(optimizer: Any) -> bool:
    """Whether this is DeepSpeed's optimizer for stage 1 in bfloat16: it has no loss scale, and each rank has all
    gradients in float32."""
    from deepspeed.runtime.bf16_optimizer import BF16_Optimizer

    return isinstance(optimizer, BF16_Optimizer)


def check_strategy(trainer: pl.Trainer) -> None:
    """Refuse engines and precisions whose gradients the module would not scale right, and what DeepSpeed lacks.

    Raises:
        ConfigError: naming the field, what it got and what would be right.
    """
    check_precision(trainer.precision)
    strategy = trainer.strategy
    if not isinstance(strategy, (SingleDeviceStrategy, ZeRO)) and type(strategy) is not DDPStrategy:
        raise ConfigError(
            f"trainer.strategy: got {type(strategy).__name__}; give ddp, or ZeRO (experiments/scale/zero2.yaml)"
        )
    if isinstance(strategy, ZeRO) and trainer.gradient_clip_algorithm == GradClipAlgorithmType.VALUE:
        raise ConfigError("trainer.gradient_clip_algorithm: got value; DeepSpeed clips by norm only, give norm")


def check_sharded(reference: Reference, strategy: Strategy) -> None:
    """Raise ConfigError for a reference whose weights are to be sharded where no engine shards them."""
    if getattr(reference, "sharded", False) and not isinstance(strategy, ZeRO):
        raise ConfigError(
            f"model.reference.sharded: got true with {type(strategy).__name__}; "
            "it needs ZeRO (experiments/scale/zero3.yaml)"
        )


def check_engine(trainer: pl.Trainer, facts: dict[str, Any]) -> None:
    """Refuse a checkpoint that this run's engine cannot read.

    Args:
        trainer: of the run to come.
        facts: of the checkpoint, from its manifest.

    Raises:
        ConfigError: naming both sides.
    """
    engine = engine_of(trainer.strategy)
    if facts["engine"] == UNIVERSAL:
        if not isinstance(trainer.strategy, ZeRO) or trainer.strategy.stage == 3:
            raise ConfigError(
                f"ckpt_path: a converted checkpoint is for ZeRO at stage 1 or 2, and this run uses {engine}"
            )
        trainer.strategy.read_universal()
        return
    if facts["engine"] != engine:
        raise ConfigError(
            f"ckpt_path: the checkpoint was written by {facts['engine']}, and this run uses {engine}; resume with the "
            "engine that wrote it, or export it and start a new run from the weights"
        )
    if engine != "torch" and facts.get("ranks") != trainer.world_size:
        raise ConfigError(
            f"ckpt_path: the checkpoint holds the shards of {facts.get('ranks')} ranks, and this run has "
            f"{trainer.world_size}; resume with as many, or convert it for any number of ranks with "
            "`python -m remit_lit convert` (stages 1 and 2)"
        )


def engine_of(strategy: Strategy) -> str:
    """What writes the checkpoints: torch (one process or DDP), or zero1 to zero3."""
    return f"zero{strategy.stage}" if isinstance(strategy, ZeRO) else "torch"


def global_weights(
    strategy: Strategy, weighting: TokenWeighting, signals: TokenSignals, micro_batches: int = 1
) -> Tensor:
    """This rank's weights by a strategy that weighs the rows of all ranks together.

    Args:
        strategy: the engine, which gathers the signals.
        weighting: the strategy.
        signals: of this rank's rows, [micro_batches * batch, time]. The strategy sees those of all ranks in the order
            of the data, which is that of one rank with batches as large.
        micro_batches: how many follow each other in ``signals``.

    Returns:
        Weights, [micro_batches * batch, time].
    """
    if not isinstance(strategy, ParallelStrategy):
        return checked_weights(weighting, signals)

    def gathered(value: Tensor) -> Tensor:  # [micro_batches * ranks * batch, time]
        whole = value.to(torch.uint8) if value.dtype == torch.bool else value
        by_rank = strategy.all_gather(whole, sync_grads=not weighting.detach)  # [ranks, micro_batches * batch, time]
        return by_rank.unflatten(1, (micro_batches, -1)).transpose(0, 1).flatten(0, 2).to(value.dtype)

    weights = checked_weights(weighting, signals.each(gathered))
    return weights.unflatten(0, (micro_batches, strategy.world_size, -1))[:, strategy.global_rank].flatten(0, 1)


def summed(strategy: Strategy, value: Tensor) -> Tensor:
    """The sum over all ranks, which the host does not wait for; Lightning's own would have it wait."""
    total = value.clone()
    if isinstance(strategy, ParallelStrategy) and strategy.world_size > 1:
        torch.distributed.all_reduce(total)
    return total


def restore_frequencies(model: nn.Module) -> None:
    """Give rotary embeddings their float32 frequencies back, which bf16-true and ZeRO stage 3 round to bfloat16.

    At position 4096 the rounding turns a head's dimensions by several radians.
    """
    for module in model.modules():
        rounded = getattr(module, "original_inv_freq", None)
        if isinstance(rounded, Tensor):
            exact: Any = type(module)(config=module.config).to(rounded.device)
            module.inv_freq, module.original_inv_freq = exact.inv_freq, exact.original_inv_freq


def check_precision(precision: object) -> None:
    """Raise ConfigError for fp16: with its loss scaling the gradients stored in the forward pass would underflow."""
    if str(precision).startswith("16"):
        raise ConfigError(f"trainer.precision: got {precision}; give bf16-mixed, bf16-true or 32-true")
