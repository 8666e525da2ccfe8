from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from remit_lit.data.lab_documents import LabDocuments
from remit_lit.data.settings import PrepareSettings
from remit_lit.evaluation.harness import run_tasks
from remit_lit.evaluation.results import Evaluation
from remit_lit.lab.tokenizer import build_tokenizer
from remit_lit.models.spec import ModelSpec
from remit_lit.recipes.lab_budgets import SEQUENCE_LENGTH, model_config
from remit_lit.training.callbacks.lab_evaluation import LabEvaluation
from remit_lit.training.callbacks.lab_weights import LabWeights
from remit_lit.training.datamodule import PackedData
from remit_lit.training.module import MidTrainingModule
from remit_lit.training.optimization import Horizon

FIGURES = {
    *("lab/accuracy", "lab/step_accuracy", "lab/probability"),
    *("lab/nll_correct_result", "lab/nll_wrong_result", "lab/nll_answer", "lab/nll_operand"),
    *("lab/nll_web", "lab/nll_noise"),
}


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.fixture
def parts(tmp_path, tokenizer):
    """A module and rows of the lab, a few steps long."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    path = str(tmp_path / "tokenizer")
    settings = PrepareSettings(
        tokenizer=path,
        sources={"correct": LabDocuments("correct", 64)},
        validation={"correct": LabDocuments("correct", 8, split="dev")},
        sequence_length=SEQUENCE_LENGTH,
    )
    module = MidTrainingModule(
        policy=ModelSpec(config={**model_config(), "hidden_size": 32, "num_hidden_layers": 1}, tokenizer=path),
        optimizer=partial(torch.optim.AdamW, lr=1e-3),
        horizon=Horizon(steps=3),
    )
    return module, PackedData(str(tmp_path / "rows"), 4, settings, num_workers=0)


def trainer(tmp_path, callback):
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        num_sanity_val_steps=-1,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
        callbacks=[callback],
    )


def test_figures_before_and_after_a_run(tmp_path, parts):
    module, data = parts
    callback = LabEvaluation(problems=10, test_problems=20, documents=5)
    assert callback.summary() == []
    run = trainer(tmp_path, callback)
    run.fit(module, data)
    assert set(callback.before) == set(callback.after) == FIGURES
    assert callback.before["lab/nll_noise"] != callback.after["lab/nll_noise"]
    assert run.callback_metrics["lab/nll_noise"].item() == pytest.approx(callback.after["lab/nll_noise"])
    assert callback.test is not None and len(callback.test.metrics["accuracy"].outcomes) == 20
    exact, probability = callback.summary()
    assert exact.startswith("lab/test_accuracy: ") and "20 problems" in exact and "standard error" in exact
    assert probability.startswith("lab/test_probability: ")


def test_a_run_leaves_what_evaluate_finds(tmp_path, parts):
    module, data = parts
    run = trainer(tmp_path, LabEvaluation(problems=10, test_problems=20, documents=5))
    run.fit(module, data)
    kept = Evaluation.read(tmp_path / "evaluation.json").tasks["lab"]
    found = run_tasks(module.policy, module.tokenizer, ["lab"], limit=20)["lab"]
    assert kept.items == found.items and set(kept.metrics) == set(found.metrics)
    for name, metric in found.metrics.items():
        assert metric.outcomes.tolist() == kept.metrics[name].outcomes.tolist(), name


def test_shortened_it_measures_a_few_problems(tmp_path, parts):
    callback = LabEvaluation(problems=10, test_problems=20, documents=5)
    callback.shorten()
    trainer(tmp_path, callback).fit(*parts)
    assert callback.test is not None and len(callback.test.items) == 8 and callback.after.keys() == FIGURES


def test_evaluation_does_not_change_training(tmp_path, parts):
    weights = []
    for callback in (LabEvaluation(problems=10, test_problems=10, documents=5), pl.Callback()):
        module, data = parts
        module.policy = None
        pl.seed_everything(0, verbose=False)
        trainer(tmp_path, callback).fit(module, data)
        weights.append(torch.cat([p.detach().flatten() for p in module.policy.parameters()]))
    assert torch.equal(*weights)


def test_test_verb_reports_the_test_figure(tmp_path, parts):
    module, data = parts
    callback = LabEvaluation(problems=10, test_problems=20, documents=5)
    (figures,) = trainer(tmp_path, callback).test(module, data, verbose=False)
    assert callback.test is not None
    for name, metric in callback.test.metrics.items():
        assert figures[f"lab/test_{name}"] == pytest.approx(metric.value)
    share = callback.test.metrics["accuracy"].value
    assert figures["lab/test_standard_error"] == pytest.approx((share * (1 - share) / 20) ** 0.5)


@pytest.mark.parametrize("callback", [LabEvaluation, LabWeights])
def test_a_policy_with_another_tokenizer_is_refused_before_training(callback, tmp_path, parts, tokenizer):
    module, data = parts
    data.prepare_data()
    module.spec.config["vocab_size"] += 1
    tokenizer.add_special_tokens({"additional_special_tokens": ["<z>"]})
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ValueError, match=rf"^trainer\.callbacks\.{callback.__name__}: .*lab's tokenizer"):
        trainer(tmp_path, callback()).fit(module, data)
    assert module.trainer.global_step == 0


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match="test_problems"):
        LabEvaluation(test_problems=0)
