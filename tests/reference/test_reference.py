import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from transformers import AutoModelForCausalLM

from remit_lit.data.batch import Batch
from remit_lit.data.columns import column_directory, shard_path, write_shard
from remit_lit.data.manifest import read_manifest
from remit_lit.errors import ConfigError, NonFiniteError
from remit_lit.losses import chunked
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import CachedReference, InitialPolicy, LiveReference
from remit_lit.reference.score import score
from remit_lit.training.distillation import Distillation
from remit_lit.training.objective import weighted_loss
from remit_lit.weighting import MiniPLM, NextTokenPrediction, ReMiT, Rho1, TokenSignals
from tests.helpers import Largest, Run, fit, get_batch, save_model
from tests.weighting import slow

CPU = torch.device("cpu")


def live(directory: Path) -> LiveReference:
    return LiveReference(ModelSpec(str(directory)))


def full_logit_nll(directory: Path, batch: Batch) -> torch.Tensor:
    """NLL by a model that transformers loads, [batch, time]."""
    model = AutoModelForCausalLM.from_pretrained(directory)
    with torch.no_grad():
        logits = model(**batch.inputs, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.targets, reduction="none")


@pytest.fixture
def scored_rows(tiny_rows_split, tmp_path):
    """A copy of the rows, to which columns may be added."""
    return Path(shutil.copytree(tiny_rows_split, tmp_path / "scored"))


def test_a_live_reference_scores_as_the_model_alone(tiny_rows_split, tiny_policy_dir, tiny_reference_dir):
    batch = get_batch(tiny_rows_split, range(3))
    reference = live(tiny_reference_dir)
    reference.load(ModelSpec(str(tiny_policy_dir)), CPU)
    nll = reference.nll(batch)
    assert nll.dtype == torch.float32 and not nll.requires_grad
    torch.testing.assert_close(nll, full_logit_nll(tiny_reference_dir, batch), rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(reference.nll(batch), nll)


def test_a_live_reference_keeps_its_own_dtype(tiny_rows_split, tiny_policy_dir, tiny_reference_dir):
    batch = get_batch(tiny_rows_split, range(3))
    reference = LiveReference(ModelSpec(str(tiny_reference_dir), dtype="bfloat16"))
    reference.load(ModelSpec(str(tiny_policy_dir)), CPU)
    assert {p.dtype for p in reference.model.parameters()} == {torch.bfloat16}
    nll = reference.nll(batch)
    assert nll.dtype == torch.float32
    exact = full_logit_nll(tiny_reference_dir, batch)
    assert 0 < (nll - exact).abs().max() < 0.1


def test_a_live_reference_holds_no_logits_of_the_batch(tiny_rows_split, tmp_path, monkeypatch):
    vocabulary, rows = 2000, 4
    wide = save_model(tmp_path / "wide", 2, vocab_size=vocabulary)
    reference = live(wide)
    reference.load(ModelSpec(str(wide)), CPU)
    monkeypatch.setattr(chunked, "_CHUNK_LOGITS", 10 * vocabulary)
    batch = get_batch(tiny_rows_split, range(rows))
    with Largest() as largest:
        nll = reference.nll(batch)
    assert largest.elements <= vocabulary * 32  # the head's weight, not 4 x 50 x 2,000 logits
    torch.testing.assert_close(nll, full_logit_nll(wide, batch), rtol=1e-5, atol=1e-5)


def test_scores_of_a_live_reference_can_be_part_of_a_graph(tiny_rows_split, tiny_policy_dir, tiny_reference_dir):
    reference = live(tiny_reference_dir)
    reference.load(ModelSpec(str(tiny_policy_dir)), CPU)
    factor = torch.ones((), requires_grad=True)
    nll = reference.nll(get_batch(tiny_rows_split, range(2)))
    (factor * nll).sum().backward()
    assert factor.grad is not None
    assert factor.grad.item() == pytest.approx(nll.sum().item())


@pytest.mark.parametrize("weighting", [ReMiT(), ReMiT(detach=False), Rho1()], ids=["remit", "attached", "rho1"])
@pytest.mark.parametrize("distilled", [False, True])
def test_the_reference_stays_as_it_is(
    tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path, weighting, distilled
):
    reference = live(tiny_reference_dir)
    checkpoint = ModelCheckpoint(tmp_path / "checkpoints", every_n_train_steps=1, save_last=True)
    run = fit(
        tiny_rows_split,
        tiny_policy_dir,
        tmp_path,
        weighting=weighting,
        reference=reference,
        distillation=Distillation() if distilled else None,
        callbacks=[checkpoint],
        optimizer=torch.optim.AdamW,
    )
    before = AutoModelForCausalLM.from_pretrained(tiny_reference_dir).state_dict()
    after = reference.model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.grad is None and not p.requires_grad for p in reference.model.parameters())
    frozen = {id(p) for p in reference.model.parameters()}
    trained = {id(p) for group in run.trainer.optimizers[0].param_groups for p in group["params"]}
    assert not frozen & trained and not frozen & {id(p) for p in run.module.parameters()}
    saved = torch.load(checkpoint.last_model_path, weights_only=False)
    assert set(saved["state_dict"]) == {f"policy.{name}" for name in run.policy.state_dict()}
    assert len(saved["optimizer_states"][0]["state"]) == len(list(run.policy.parameters()))


def test_a_fingerprint_tells_models_apart(tiny_policy_dir, tiny_reference_dir, tmp_path):
    fingerprints = []
    for directory in (tiny_policy_dir, tiny_reference_dir, save_model(tmp_path, seed=1)):
        reference = live(directory)
        reference.load(ModelSpec(str(directory)), CPU)
        fingerprints.append(reference.weights_hash())
    assert fingerprints[0] == fingerprints[2] != fingerprints[1]


@pytest.mark.parametrize("weighting", [ReMiT(), Rho1(scope="row")], ids=["remit", "rho1"])
def test_a_cached_reference_trains_as_the_live_one(
    scored_rows, tiny_policy_dir, tiny_reference_dir, tmp_path, weighting
):
    score(str(scored_rows), ModelSpec(str(tiny_reference_dir)), "nll_rl", dtype="float32")
    asked, cached = (
        fit(scored_rows, tiny_policy_dir, tmp_path, weighting=weighting, reference=reference)
        for reference in (live(tiny_reference_dir), CachedReference("nll_rl"))
    )
    assert cached.losses == pytest.approx(asked.losses, rel=1e-6)
    for name, value in asked.parameters.items():
        torch.testing.assert_close(cached.parameters[name], value, rtol=0, atol=1e-6)


def poison(rows: Path, row: int, value: float, *, counted: bool) -> None:
    """Write ``value`` into the column at a counted or an uncounted token of ``row``."""
    targets = get_batch(rows, [row]).targets[0]
    token = int((targets >= 0 if counted else targets < 0).nonzero()[0])
    directory = column_directory(rows, "train", "nll_rl")
    values = np.load(shard_path(directory, 0))
    values[row, token] = value
    write_shard(directory, 0, values)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_column_names_the_row_where_a_token_counts(
    scored_rows, tiny_policy_dir, tiny_reference_dir, tmp_path, value
):
    def run() -> Run:
        return fit(scored_rows, tiny_policy_dir, tmp_path, weighting=ReMiT(), reference=CachedReference("nll_rl"))

    score(str(scored_rows), ModelSpec(str(tiny_reference_dir)), "nll_rl")
    clean = run()
    row = clean.recorder.rows[2][1]
    poison(scored_rows, row, value, counted=False)
    assert run().losses == clean.losses
    poison(scored_rows, row, value, counted=True)
    with pytest.raises(NonFiniteError, match=rf"'nll_rl'.*row\(s\) \[{row}\]"):
        run()


@pytest.mark.parametrize("weighting", [ReMiT(), Rho1(), MiniPLM()], ids=["remit", "rho1", "miniplm"])
def test_a_broken_live_reference_stops_the_run(tiny_rows_split, tiny_policy_dir, tmp_path, weighting):
    broken = save_model(tmp_path / "broken", 2, tie_word_embeddings=False)
    model = AutoModelForCausalLM.from_pretrained(broken)
    with torch.no_grad():
        model.model.embed_tokens.weight[20] = float("nan")
    model.save_pretrained(broken)
    with pytest.raises(NonFiniteError, match="row"):
        fit(tiny_rows_split, tiny_policy_dir, tmp_path, weighting=weighting, reference=live(broken))


@pytest.mark.parametrize("weighting", [ReMiT(), Rho1(scope="row"), Rho1()], ids=["remit", "rho1-row", "rho1"])
def test_the_initial_policy_as_base_gives_weights_that_training_does_not_move(
    tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path, weighting
):
    run = fit(
        tiny_rows_split,
        tiny_policy_dir,
        tmp_path,
        weighting=weighting,
        reference=live(tiny_reference_dir),
        base=InitialPolicy(),
        learning_rate=1.0,
        steps=3,
    )
    moved = False
    for rows, weights in zip(run.recorder.rows, run.recorder.weights, strict=True):
        batch = get_batch(tiny_rows_split, rows)
        signals = TokenSignals(
            full_logit_nll(tiny_policy_dir, batch),
            batch.mask,
            full_logit_nll(tiny_reference_dir, batch),
            neutral=batch.targets <= 1,
        )
        expected = slow.remit(signals) if isinstance(weighting, ReMiT) else slow.rho1(signals, scope=weighting.scope)
        torch.testing.assert_close(weights, torch.tensor(expected), rtol=0, atol=1e-5)
        now = run.module.policy
        assert now is not None
        with torch.no_grad():
            trained = replace(signals, policy_nll=run.module(batch))
        moved |= not torch.allclose(weighting.weights(trained), weights, atol=1e-2)
    assert moved


def test_the_initial_policy_is_a_copy(tiny_rows_split, tiny_policy_dir, tmp_path):
    base = InitialPolicy()
    fit(
        tiny_rows_split,
        tiny_policy_dir,
        tmp_path,
        weighting=ReMiT(),
        reference=live(tiny_policy_dir),
        base=base,
        learning_rate=1.0,
    )
    expected = AutoModelForCausalLM.from_pretrained(tiny_policy_dir).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in base.model.state_dict().items())


@pytest.mark.parametrize("cached", [False, True])
def test_miniplm_trains_on_the_rows_of_the_largest_difference(
    scored_rows, tiny_policy_dir, tiny_reference_dir, tmp_path, cached
):
    if cached:
        for column, directory in (("nll_base", tiny_policy_dir), ("nll_rl", tiny_reference_dir)):
            score(str(scored_rows), ModelSpec(str(directory)), column, dtype="float32")
    run = fit(
        scored_rows,
        tiny_policy_dir,
        tmp_path,
        weighting=MiniPLM(0.2),
        reference=CachedReference("nll_rl") if cached else live(tiny_reference_dir),
        base=CachedReference("nll_base") if cached else None,
        steps=7,
        batch_size=8,
        repeat_chosen=True,
    )
    count = read_manifest(scored_rows).counts["train"]["rows"]
    batch = get_batch(scored_rows, range(count))
    counted = batch.mask
    means = [
        [nll[mask].double().mean().item() for nll, mask in zip(full_logit_nll(path, batch), counted, strict=True)]
        for path in (tiny_policy_dir, tiny_reference_dir)
    ]
    chosen = slow.miniplm(means[0], means[1], 0.2)
    trained = [row for rows in run.recorder.rows for row in rows]
    assert len(chosen) == 28
    assert sorted(trained) == sorted(2 * chosen)
    assert sorted(trained[:28]) == chosen


def test_a_strategy_that_compares_with_nothing_loads_no_reference(
    tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path
):
    reference = live(tiny_reference_dir)
    settings = {"weighting": NextTokenPrediction(), "reference": reference}
    with_reference = fit(tiny_rows_split, tiny_policy_dir, tmp_path, **settings)
    assert reference._model is None
    assert with_reference.losses == fit(tiny_rows_split, tiny_policy_dir, tmp_path).losses


def test_a_batch_may_come_from_anywhere(tiny_rows_split, tiny_policy_dir, tiny_reference_dir):
    reference = live(tiny_reference_dir)
    reference.load(ModelSpec(str(tiny_policy_dir)), CPU)
    batch = get_batch(tiny_rows_split, range(2))
    hidden, (weight, bias) = reference.hidden_states(batch.to(CPU))
    assert bias is None and not hidden.requires_grad
    logits = hidden @ weight.T
    nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.targets, reduction="none")
    torch.testing.assert_close(nll, reference.nll(batch), rtol=1e-5, atol=1e-5)


def test_another_tokenizer_is_refused(tiny_rows, tiny_reference_dir, tmp_path, tiny_policy_dir):
    other = Path(shutil.copytree(tiny_reference_dir, tmp_path / "other"))
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text.replace('"a": 19', '"a": 31').replace('"m": 31', '"m": 19'))
    assert (other / "tokenizer.json").read_text() != text
    with pytest.raises(ConfigError, match=r"^model\.reference\.init_args\.model: its tokenizer"):
        fit(tiny_rows, tiny_policy_dir, tmp_path, weighting=ReMiT(), reference=live(other))


def test_a_reference_with_a_short_window_is_refused(tiny_rows, tiny_policy_dir, tmp_path):
    short = save_model(tmp_path / "short", 2, max_position_embeddings=131)
    with pytest.raises(ConfigError, match=r"^model\.reference\.init_args\.model: reads at most 131 tokens.*132"):
        fit(tiny_rows, tiny_policy_dir, tmp_path, weighting=ReMiT(), reference=live(short))


def test_a_fresh_policy_has_no_initial_weights_to_return_to(
    tiny_rows, tiny_tokenizer_dir, tmp_path, tiny_reference_dir
):
    config = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    fresh = ModelSpec(config=config, tokenizer=str(tiny_tokenizer_dir))
    with pytest.raises(ConfigError, match=r"InitialPolicy needs model\.policy\.path"):
        fit(tiny_rows, fresh, tmp_path, weighting=ReMiT(), reference=live(tiny_reference_dir), base=InitialPolicy())


def test_agreeing_reference_leaves_the_loss_of_next_token_prediction(tiny_rows_split, tiny_policy_dir):
    batch = get_batch(tiny_rows_split, range(4))
    spec = ModelSpec(str(tiny_policy_dir))
    policy, reference = spec.load(), live(tiny_policy_dir)
    reference.load(spec, CPU)
    neutral_ids = torch.tensor([0, 1])
    results = []
    for weighting in (ReMiT(), NextTokenPrediction()):
        loss = weighted_loss(policy, batch, weighting, neutral_ids=neutral_ids, reference_nll=reference.nll(batch))
        results.append((loss, torch.autograd.grad(loss.total / loss.normalizer, list(policy.parameters()))))
    (guided, gradients), (plain, wanted) = results
    assert guided.normalizer == plain.normalizer
    torch.testing.assert_close(guided.total, plain.total, rtol=1e-6, atol=0)
    for gradient, other in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, other, rtol=0, atol=1e-6)
