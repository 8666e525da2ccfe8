"""Small tasks and the lab during a run: what the policy in training can do, every so many steps."""

import time
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from transformers import PreTrainedModel

from remit_lit.errors import ConfigError, require_at_least
from remit_lit.models.shards import full_state_dict
from remit_lit.runs.history import Evaluated, add_to_history, read_history, write_history
from remit_lit.training.callbacks import mid_training
from remit_lit.training.callbacks.throughput import Throughput
from remit_lit.training.callbacks.watchdog import Watchdog
from remit_lit.training.engines import ZeRO
from remit_lit.training.module import MidTrainingModule

# Ranks wait for rank 0 for as long as it makes progress, which the watchdog sees to.
_TIMEOUT = timedelta(days=7)
_LOOK_SECONDS = 0.05


class InLoopEvaluation(pl.Callback):
    """Measure the policy in training on tasks every so many optimizer steps, and when training ends.

    Figures are logged as ``eval/TASK/METRIC`` at the number of steps that made the weights, and kept in
    ``run_dir/evaluations.jsonl``. Training is the same to the last bit as without this callback. A run that goes on
    from a checkpoint repeats no evaluation.

    Rank 0 measures and the others wait: figures are then those of one process on the same weights, and downloads and
    programs that a task runs happen once. The policy is evaluated in the dtype in which it trains; under ZeRO stage 3,
    where no rank has it whole, rank 0 builds a second one of the gathered float32 weights for as long as it measures.

    Args:
        tasks: names of tasks, as in ``evaluate``. They are test items: use the curves to show
            progress, not to choose a checkpoint.
        every_n_steps: optimizer steps from one evaluation to the next; training waits for each.
        limit: how many items to take from the start of each task; null takes all. Fewer are faster and noisier.
        batch_size: how many sequences are processed at a time; lower it when memory runs out.
        allow_code_execution: run programs that the model wrote, in a sandbox, which some tasks need.
        at_start: measure before training too.

    Attributes:
        history: figures so far, on every rank.
        seconds: that evaluations of this process took.
        times: evaluations of this process.

    Raises:
        ConfigError: there is no task, one is named twice, or a number is below 1; and before a model is loaded, a task
            is unknown, or the lab is to be evaluated with another tokenizer.
    """

    def __init__(
        self,
        tasks: list[str],
        every_n_steps: int,
        limit: int | None = 200,
        batch_size: int = 8,
        allow_code_execution: bool = False,
        at_start: bool = False,
    ) -> None:
        if not tasks or len(set(tasks)) < len(tasks):
            raise ConfigError(f"InLoopEvaluation.tasks: got {tasks}; give at least one, and each once")
        for field, value in (("every_n_steps", every_n_steps), ("limit", limit), ("batch_size", batch_size)):
            require_at_least(f"InLoopEvaluation.{field}", value, 1)
        self.tasks, self.every_n_steps, self.limit = tasks, every_n_steps, limit
        self.batch_size, self.allow_code_execution, self.at_start = batch_size, allow_code_execution, at_start
        self.history: list[Evaluated] = []
        self.seconds, self.times = 0.0, 0
        self._started = self._training_seconds = 0.0
        self._group: Any = None

    def shorten(self) -> None:
        """Take a few items of each task only, as a dry run does."""
        self.limit = min(self.limit or 8, 8)

    def summary(self) -> list[str]:
        """A line for the end of a run."""
        return [f"evaluation took {self.seconds:.1f} s of {self._training_seconds:.1f} s, {self.times} times"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        with isolate_rng():  # the weights of a fresh policy are drawn after this
            try:
                from remit_lit.evaluation.harness import check_tasks  # a `fit` without tasks should not wait for it
            except ImportError as error:
                raise ConfigError(f"InLoopEvaluation: pip install 'remit_lit[evaluation]' ({error})") from error
            check_tasks(self.tasks, mid_training(pl_module).spec.load_tokenizer())

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.perf_counter()
        if trainer.world_size > 1:
            self._group = torch.distributed.new_group(timeout=_TIMEOUT, backend="gloo")
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            earlier = read_history(trainer.default_root_dir) if trainer.global_step else []  # of a run that goes on
            self.history = [point for point in earlier if point.global_step <= trainer.global_step]
            write_history(trainer.default_root_dir, self.history)
        self.history = trainer.strategy.broadcast(self.history)
        # Also at a checkpoint's step, whose line may have been lost with the process.
        if self._is_due(trainer.global_step):
            self._evaluate(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._is_due(trainer.global_step):
            self._evaluate(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._evaluate(trainer, pl_module)
        self._training_seconds = time.perf_counter() - self._started

    def _is_due(self, global_step: int) -> bool:
        return global_step % self.every_n_steps == 0 if global_step else self.at_start

    def _evaluate(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Once after each step, though hooks come after each micro-batch."""
        step = trainer.global_step
        if trainer.fast_dev_run or any(point.global_step == step for point in self.history):  # type: ignore[attr-defined]
            return
        module, started = mid_training(pl_module), time.perf_counter()
        with isolate_rng(), _uncompiled(module):
            model = _whole_policy(module, trainer)
            figures = {} if model is None else self._measure(model, module, trainer)
            del model
        self._wait(trainer)
        point = Evaluated(step, step * module.tokens_per_step, trainer.strategy.broadcast(figures))
        self.history.append(point)
        if trainer.is_global_zero:
            add_to_history(trainer.default_root_dir, point)
            for logger in trainer.loggers:
                logger.log_metrics({f"eval/{name}": value for name, value in figures.items()}, step)
        self._count(trainer, time.perf_counter() - started)

    def _measure(self, model: PreTrainedModel, module: MidTrainingModule, trainer: pl.Trainer) -> dict[str, float]:
        """Figures by ``TASK/METRIC``; each forward pass tells the watchdog that this rank is not hanging."""
        from remit_lit.evaluation.harness import run_tasks

        assert module.tokenizer is not None
        hook = model.register_forward_pre_hook(lambda *_: _show_progress(trainer))
        try:
            results = run_tasks(
                model,
                module.tokenizer,
                self.tasks,
                limit=self.limit,
                batch_size=self.batch_size,
                allow_code_execution=self.allow_code_execution,
            )
        finally:
            hook.remove()
        for name, task in results.items():
            if task.not_run is not None:
                rank_zero_warn(f"task {name} was not run: {task.not_run}")
        return {
            f"{name}/{metric}": figure.value
            for name, task in results.items()
            if task.not_run is None
            for metric, figure in task.metrics.items()
        }

    def _wait(self, trainer: pl.Trainer) -> None:
        """Until rank 0 is here. Engines' own barriers would give up after half an hour."""
        if self._group is None:
            return
        work = torch.distributed.barrier(self._group, async_op=True)
        assert work is not None
        while not work.is_completed():
            _show_progress(trainer)
            time.sleep(_LOOK_SECONDS)
        work.wait()

    def _count(self, trainer: pl.Trainer, seconds: float) -> None:
        self.seconds, self.times = self.seconds + seconds, self.times + 1
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Throughput):
                callback.leave_out(seconds)


def _whole_policy(module: MidTrainingModule, trainer: pl.Trainer) -> PreTrainedModel | None:
    """The policy on rank 0, None on the others. Every rank must call it."""
    strategy = trainer.strategy
    assert module.policy is not None
    if not isinstance(strategy, ZeRO) or strategy.stage < 3:
        return module.policy if trainer.is_global_zero else None
    state = full_state_dict(module.policy, strategy)
    if state is None:
        return None
    model = module.spec.build_empty("model.policy")
    model.load_state_dict(state)
    return model.to(module.device)  # type: ignore[arg-type]


def _uncompiled(module: MidTrainingModule) -> AbstractContextManager[Any]:
    """Shapes of tasks are many; compiling for each would cost more than it gives, and could change the step's code."""
    return torch.compiler.set_stance("force_eager") if module.compile_policy else nullcontext()


def _show_progress(trainer: pl.Trainer) -> None:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Watchdog):
            callback.on_validation_batch_start()
