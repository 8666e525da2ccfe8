"""The lab's figures during a run: on dev problems at each validation, on test problems at the end."""

from pathlib import Path

import lightning.pytorch as pl
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.errors import require_at_least
from remit_lit.evaluation.lab import LAB, measure_lab
from remit_lit.evaluation.results import Evaluation, Metric, TaskResult
from remit_lit.lab.evaluation import lab_scores, result_nll
from remit_lit.lab.task import sample_problems
from remit_lit.lab.tokenizer import check_lab_tokenizer
from remit_lit.runs.folder import EVALUATION
from remit_lit.training.callbacks import mid_training


class LabEvaluation(pl.Callback):
    """Log the policy's figures on the lab's dev problems at each validation, and on the test problems at the end.

    At each validation they are ``lab/accuracy`` (exact traces), ``lab/step_accuracy``, ``lab/probability`` (of the
    correct results) and ``lab/nll_*`` by kind of token; at the end ``lab/test_*``, all that ``evaluate --tasks lab``
    measures, whose file ``evaluation.json`` the run folder then has. They take forward passes only. Figures before
    training come from the validation that Lightning runs first (``num_sanity_val_steps: -1``). Every rank scores all
    problems, so the figures need no reduction.

    Args:
        problems: number of dev problems to score at each validation; more make the figures less noisy and slower.
        test_problems: number of test problems to score when training ends.
        documents: number of dev documents of each kind whose losses are measured at each validation.
        batch_size: problems or documents at a time; fewer take less memory.

    Attributes:
        before: figures before training.
        after: figures of the latest validation.
        test: figures on the test problems after training, with their outcomes.

    Raises:
        ConfigError: an argument is below 1; and when a run starts, the policy's tokenizer is not the lab's.
    """

    def __init__(
        self, problems: int = 500, test_problems: int = 2000, documents: int = 250, batch_size: int = 500
    ) -> None:
        self.problems, self.test_problems = problems, test_problems
        self.documents, self.batch_size = documents, batch_size
        for field, value in vars(self).items():
            require_at_least(f"LabEvaluation.{field}", value, 1)
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}
        self.test: TaskResult | None = None

    def shorten(self) -> None:
        """Measure a few problems and documents only, as a dry run does."""
        self.problems, self.test_problems = min(self.problems, 8), min(self.test_problems, 8)
        self.documents = min(self.documents, 8)

    def summary(self) -> list[str]:
        """A line for the end of a run."""
        if self.test is None:
            return []
        accuracy, probability = self.test.metrics["accuracy"], self.test.metrics["probability"]
        exact = f"{accuracy.value:.4f} (standard error {_standard_error(accuracy):.4f})"
        return [
            f"lab/test_accuracy: {exact} on {len(self.test.items):,} problems",
            f"lab/test_probability: {probability.value:.4f} of the correct results",
        ]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _policy(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        policy, tokenizer = _policy(pl_module)
        solved = lab_scores(policy, tokenizer, sample_problems(self.problems, "dev"), self.batch_size).figures()
        losses = result_nll(policy, tokenizer, self.documents, self.batch_size)
        figures = {f"lab/{name}": value for name, value in solved.items()}
        figures |= {f"lab/nll_{kind.name.lower()}": value for kind, value in losses.items()}
        if trainer.sanity_checking:
            self.before = figures
        else:
            self.after = figures
        pl_module.log_dict(figures, sync_dist=trainer.world_size > 1)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self.test = self._measure(pl_module)
        for logger in trainer.loggers:
            logger.log_metrics(_test_figures(self.test), trainer.global_step)
        if trainer.is_global_zero:
            facts = {"model": {"path": trainer.default_root_dir}, "step": trainer.global_step}
            Evaluation({LAB: self.test}, facts).write(Path(trainer.default_root_dir, EVALUATION))

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.test = self._measure(pl_module)
        pl_module.log_dict(_test_figures(self.test), sync_dist=trainer.world_size > 1)

    def _measure(self, pl_module: pl.LightningModule) -> TaskResult:
        return measure_lab(*_policy(pl_module), limit=self.test_problems, batch_size=self.batch_size)


def _test_figures(test: TaskResult) -> dict[str, float]:
    figures = {f"lab/test_{name}": metric.value for name, metric in test.metrics.items()}
    return {**figures, "lab/test_standard_error": _standard_error(test.metrics["accuracy"])}


def _standard_error(accuracy: Metric) -> float:
    return float((accuracy.value * (1 - accuracy.value) / len(accuracy.outcomes)) ** 0.5)


def _policy(pl_module: pl.LightningModule) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    module = mid_training(pl_module)
    assert module.policy is not None and module.tokenizer is not None
    check_lab_tokenizer(module.tokenizer, "trainer.callbacks.LabEvaluation")
    return module.policy, module.tokenizer
