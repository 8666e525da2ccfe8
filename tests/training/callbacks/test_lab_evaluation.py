from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from remit_lit.data.lab_documents import LabDocuments
from remit_lit.data.settings import PrepareSettings
from remit_lit.lab.tokenizer import build_tokenizer
from remit_lit.models.spec import ModelSpec
from remit_lit.recipes.lab_budgets import SEQUENCE_LENGTH, model_config
from remit_lit.training.callbacks.lab_evaluation import LabEvaluation
from remit_lit.training.datamodule import PackedData
from remit_lit.training.module import MidTrainingModule
from remit_lit.training.optimization import Horizon

FIGURES = {"lab/accuracy", "lab/nll_correct_result", "lab/nll_wrong_result", "lab/nll_noise"}


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
    assert callback.test is not None and len(callback.test.outcomes) == 20
    (line,) = callback.summary()
    assert line.startswith("lab/test_accuracy: ") and "20 problems" in line and "standard error" in line


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
    assert figures["lab/test_accuracy"] == pytest.approx(callback.test_accuracy)
    assert figures["lab/test_standard_error"] == pytest.approx(callback.test_standard_error)


def test_a_policy_with_another_tokenizer_is_refused_before_training(tmp_path, parts, tokenizer):
    module, data = parts
    data.prepare_data()
    module.spec.config["vocab_size"] += 1
    tokenizer.add_special_tokens({"additional_special_tokens": ["<z>"]})
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ValueError, match="lab's tokenizer"):
        trainer(tmp_path, LabEvaluation()).fit(module, data)
    assert module.trainer.global_step == 0


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match="test_problems"):
        LabEvaluation(test_problems=0)
