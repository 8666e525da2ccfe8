"""The lab's figures during a run: dev accuracy and losses at each validation, test accuracy at the end."""

import lightning.pytorch as pl
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from remit_lit.errors import ConfigError
from remit_lit.lab.evaluation import LabAccuracy, lab_accuracy, result_nll
from remit_lit.lab.task import sample_problems
from remit_lit.lab.tokenizer import check_lab_tokenizer
from remit_lit.training.callbacks import mid_training


class LabEvaluation(pl.Callback):
    """Log ``lab/accuracy`` and ``lab/nll_*`` of the policy at each validation, and ``lab/test_accuracy`` at the end.

    Figures before training come from the validation that Lightning runs first (``num_sanity_val_steps: -1``). Every
    rank solves all problems, so the figures need no reduction.

    Args:
        problems: number of dev problems to solve at each validation; more make the accuracy less noisy and slower.
        test_problems: number of test problems to solve when training ends.
        documents: number of dev documents of each kind whose losses are measured.
        batch_size: problems or documents at a time; fewer take less memory.

    Attributes:
        before: figures before training.
        after: figures of the latest validation.
        test: accuracy on the test problems after training, with standard error and outcomes.

    Raises:
        ConfigError: an argument is below 1; and when a run starts, the policy's tokenizer is not the lab's.
    """

    def __init__(
        self, problems: int = 500, test_problems: int = 2000, documents: int = 250, batch_size: int = 500
    ) -> None:
        self.problems, self.test_problems = problems, test_problems
        self.documents, self.batch_size = documents, batch_size
        for field, value in vars(self).items():
            if value < 1:
                raise ConfigError(f"LabEvaluation.{field}: got {value}; give at least 1")
        self.before: dict[str, float] = {}
        self.after: dict[str, float] = {}
        self.test: LabAccuracy | None = None

    @property
    def test_accuracy(self) -> float | None:
        """Accuracy on the test problems after training, in [0, 1]."""
        return self.test.accuracy if self.test else None

    @property
    def test_standard_error(self) -> float | None:
        """Standard error of :attr:`test_accuracy`."""
        return self.test.standard_error if self.test else None

    def summary(self) -> list[str]:
        """A line for the end of a run."""
        if self.test is None:
            return []
        figure = f"{self.test.accuracy:.4f} (standard error {self.test.standard_error:.4f})"
        return [f"lab/test_accuracy: {figure} on {self.test_problems:,} problems"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _policy(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        policy, tokenizer = _policy(pl_module)
        solved = lab_accuracy(policy, tokenizer, sample_problems(self.problems, "dev"), self.batch_size)
        losses = result_nll(policy, tokenizer, self.documents, self.batch_size)
        figures = {"lab/accuracy": solved.accuracy}
        figures |= {f"lab/nll_{kind.name.lower()}": value for kind, value in losses.items()}
        if trainer.sanity_checking:
            self.before = figures
        else:
            self.after = figures
        pl_module.log_dict(figures, sync_dist=trainer.world_size > 1)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self.test = self._solve_test(pl_module)
        for logger in trainer.loggers:
            logger.log_metrics(_test_figures(self.test), trainer.global_step)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.test = self._solve_test(pl_module)
        pl_module.log_dict(_test_figures(self.test), sync_dist=trainer.world_size > 1)

    def _solve_test(self, pl_module: pl.LightningModule) -> LabAccuracy:
        return lab_accuracy(*_policy(pl_module), sample_problems(self.test_problems, "test"), self.batch_size)


def _test_figures(test: LabAccuracy) -> dict[str, float]:
    return {"lab/test_accuracy": test.accuracy, "lab/test_standard_error": test.standard_error}


def _policy(pl_module: pl.LightningModule) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    module = mid_training(pl_module)
    assert module.policy is not None and module.tokenizer is not None
    check_lab_tokenizer(module.tokenizer)
    return module.policy, module.tokenizer
