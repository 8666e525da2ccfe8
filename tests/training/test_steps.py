"""Optimizer steps against plain PyTorch on whole logits, and settings that change no loss."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor
from transformers import AutoModelForCausalLM

from remit_lit.errors import ConfigError
from remit_lit.models.loss_head import hidden_states, recompute_activations
from remit_lit.models.spec import ModelSpec
from remit_lit.training.callbacks.run_summary import RunSummary
from remit_lit.training.distillation import Distillation
from remit_lit.training.module import MidTrainingModule
from remit_lit.training.objective import weighted_loss
from remit_lit.training.optimization import Horizon, Linear
from remit_lit.weighting import NextTokenPrediction, ReMiT, Rho1, TokenSignals, TokenWeighting
from tests.helpers import fit, get_batch
from tests.training.plain import assert_same, gradients_of, live, nll_of
from tests.weighting import slow
from tests.weighting.custom_strategy import HardTokens


def train_slowly(
    directory: Any,
    reference: Any,
    rows: Any,
    steps: list[list[list[int]]],
    weigh: Callable[[TokenSignals], slow.Rows],
    rates: list[float],
    *,
    weight_decay: float,
    clip: float | None,
    kept_only: bool = False,
) -> dict[str, Tensor]:
    """Parameters after SGD in plain PyTorch on all logits; ``steps`` are micro-batches of rows by step."""
    model, frozen = (AutoModelForCausalLM.from_pretrained(path) for path in (directory, reference))
    for micro_batches, rate in zip(steps, rates, strict=True):
        sums, counts = [], []
        for indices in micro_batches:
            batch = get_batch(rows, indices)
            nll, mask = nll_of(model, batch), batch.mask
            with torch.no_grad():
                other = nll_of(frozen, batch)
            signals = TokenSignals(nll.detach(), mask, other, batch.segment_ids, batch.targets <= 1)
            weights = torch.tensor(weigh(signals))
            sums.append((weights * nll).sum())
            counts.append(weights.sum() if kept_only else mask.sum())
        loss = torch.stack(sums).sum() / torch.stack(counts).sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
        scale = 1.0 if clip is None else min(1.0, clip / norm.item())
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.sub_(rate * (scale * gradient + weight_decay * parameter))
    return {name: value.detach() for name, value in model.named_parameters()}


STRATEGIES: dict[str, tuple[TokenWeighting, Callable[[TokenSignals], slow.Rows]]] = {
    "ntp": (NextTokenPrediction(), slow.ntp),
    "remit": (ReMiT(epsilon=0.4), partial(slow.remit, epsilon=0.4)),
    "rho1": (Rho1(0.5), partial(slow.rho1, keep=0.5)),
    "rho1-row": (Rho1(0.5, "row"), partial(slow.rho1, keep=0.5, scope="row")),
}


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_run_equals_a_plain_loop(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path, name, clip):
    weighting, weigh = STRATEGIES[name]
    run = fit(
        tiny_rows_split,
        tiny_policy_dir,
        tmp_path,
        weighting=weighting,
        reference=live(tiny_reference_dir),
        optimizer=partial(torch.optim.SGD, lr=0.2, weight_decay=0.1),
        schedule=Linear(warmup_steps=1),
        steps=3,
        accumulate=2,
        trainer={"gradient_clip_val": clip},
    )
    steps = [[rows[:2], rows[2:]] for rows in run.recorder.rows]
    expected = train_slowly(
        tiny_policy_dir,
        tiny_reference_dir,
        tiny_rows_split,
        steps,
        weigh,
        [0.1, 0.2, 0.1],
        weight_decay=0.1,
        clip=clip,
        kept_only=name.startswith("rho1"),
    )
    assert_same(run.parameters, expected, atol=2e-6)
    initial = AutoModelForCausalLM.from_pretrained(tiny_policy_dir).state_dict()
    assert max((run.parameters[n] - initial[n]).abs().max() for n in run.parameters) > 1e-2


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_a_fused_optimizer_clips_under_autocast(tiny_rows_split, tiny_policy_dir, tmp_path, monkeypatch, algorithm):
    norms: list[Tensor] = []
    compute = torch.nn.utils.get_total_norm

    def counted(*given: Any) -> Tensor:
        norms.append(compute(*given))
        return norms[-1]

    monkeypatch.setattr(torch.nn.utils, "get_total_norm", counted)
    clip = 0.01 if algorithm == "value" else 0.5
    run = fit(
        tiny_rows_split,
        tiny_policy_dir,
        tmp_path,
        optimizer=partial(torch.optim.AdamW, lr=1e-2, eps=1e-2, fused=True),
        steps=1,
        accumulate=2,
        trainer={"precision": "bf16-mixed", "gradient_clip_val": clip, "gradient_clip_algorithm": algorithm},
    )
    assert run.logged("train/grad_norm") == pytest.approx([norm.item() for norm in norms])
    assert len(norms) == 1 and min(norms) > clip

    model = ModelSpec(str(tiny_policy_dir)).load().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, eps=1e-2)  # so large that clipping shows
    for rows in run.recorder.rows:
        batches = [get_batch(tiny_rows_split, micro_batch) for micro_batch in (rows[:2], rows[2:])]
        optimizer.zero_grad()
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16):
                neutral = torch.zeros(0, dtype=torch.long)
                loss = weighted_loss(model, batch, NextTokenPrediction(), neutral_ids=neutral).total
            (loss / batch.mask.numel() / 2).backward()  # the same roundings to bfloat16
        gradients = gradients_of(model).values()
        torch._foreach_mul_(list(gradients), 2 * batch.mask.numel() / sum(int(each.mask.sum()) for each in batches))
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt().item()
        for gradient in gradients:
            gradient.mul_(min(1.0, clip / (norm + 1e-6))) if algorithm == "norm" else gradient.clamp_(-clip, clip)
        optimizer.step()
    assert_same(run.parameters, {name: value.detach() for name, value in model.named_parameters()}, atol=2e-6)


@pytest.mark.parametrize("distilled", [False, True], ids=["", "distilled"])
@pytest.mark.parametrize(
    "weighting",
    [NextTokenPrediction(), ReMiT(), Rho1(scope="row")],
    ids=["ntp", "remit", "rho1-row"],
)
def test_accumulation_equals_one_large_batch(
    tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path, weighting, distilled
):
    small, large = (
        fit(
            tiny_rows_split,
            tiny_policy_dir,
            tmp_path,
            weighting=weighting,
            reference=live(tiny_reference_dir),
            distillation=Distillation() if distilled else None,
            batch_size=batch_size,
            accumulate=accumulate,
            steps=3,
        )
        for batch_size, accumulate in ((2, 4), (8, 1))
    )
    assert small.recorder.rows == large.recorder.rows
    batches = [get_batch(tiny_rows_split, large.recorder.rows[0][first : first + 2]) for first in range(0, 8, 2)]
    assert len({int(batch.mask.sum()) for batch in batches}) > 1
    assert small.losses == pytest.approx(large.losses, rel=1e-6)
    assert small.logged("train/grad_norm") == pytest.approx(large.logged("train/grad_norm"), rel=1e-5)
    assert_same(small.parameters, large.parameters)


def test_the_first_step_of_agreeing_models_is_that_of_next_token_prediction(tiny_rows_split, tiny_policy_dir, tmp_path):
    guided, plain = (
        fit(tiny_rows_split, tiny_policy_dir, tmp_path, steps=1, weighting=weighting, reference=live(tiny_policy_dir))
        for weighting in (ReMiT(), NextTokenPrediction())
    )
    assert guided.losses == pytest.approx(plain.losses, rel=1e-6)
    assert_same(guided.parameters, plain.parameters)


def test_the_logged_loss_and_norm_are_those_of_the_step(tiny_rows_split, tiny_policy_dir, tmp_path):
    run = fit(tiny_rows_split, tiny_policy_dir, tmp_path, steps=1, accumulate=2, learning_rate=0.5)
    model = AutoModelForCausalLM.from_pretrained(tiny_policy_dir)
    batch = get_batch(tiny_rows_split, run.recorder.rows[0])
    loss = nll_of(model, batch).sum() / batch.mask.sum()
    loss.backward()
    norm = torch.stack([g.square().sum() for g in gradients_of(model).values()]).sum().sqrt()
    assert run.losses == pytest.approx([loss.item()], rel=1e-6)
    assert run.logged("train/grad_norm") == pytest.approx([norm.item()], rel=1e-5)


@pytest.mark.parametrize("neutral", [True, False])
def test_special_and_named_tokens_are_neutral_by_one_switch(
    tiny_rows, tiny_policy_dir, tiny_reference_dir, tmp_path, neutral
):
    run = fit(
        tiny_rows,
        tiny_policy_dir,
        tmp_path,
        steps=1,
        weighting=ReMiT(),
        reference=live(tiny_reference_dir),
        neutral_tokens=neutral,
        neutral_token_ids=[5, 7],
    )
    targets = get_batch(tiny_rows, run.recorder.rows[0]).targets
    weights = run.recorder.weights[0]
    for token, expected in {1: neutral, 5: neutral, 7: neutral, 6: False, 8: False}.items():
        chosen = weights[targets == token]
        assert len(chosen) and bool((chosen == 1).all()) is expected


def test_a_strategy_of_the_users_own_trains(tiny_rows_split, tiny_policy_dir, tmp_path):
    parser = ArgumentParser()
    parser.add_subclass_arguments(TokenWeighting, "weighting")
    given = {"class_path": "tests.weighting.custom_strategy.HardTokens", "init_args": {"threshold": 3.4}}
    weighting = parser.instantiate_classes(parser.parse_object({"weighting": given})).weighting
    assert type(weighting) is HardTokens
    run = fit(tiny_rows_split, tiny_policy_dir, tmp_path, weighting=weighting, steps=1, accumulate=2)
    model = AutoModelForCausalLM.from_pretrained(tiny_policy_dir)
    batch = get_batch(tiny_rows_split, run.recorder.rows[0])
    nll, mask = nll_of(model, batch).detach(), batch.mask
    weights = torch.where(nll > 3.4, 2.0, 1.0) * mask
    assert set(weights.flatten().tolist()) == {0.0, 1.0, 2.0}
    assert torch.equal(run.recorder.weights[0], weights[2:])
    assert run.losses == pytest.approx([((weights * nll).sum() / weights.sum()).item()], rel=1e-6)


def test_the_same_seed_gives_the_same_run(tiny_rows_split, tiny_policy_dir, tmp_path):
    first, second, other = (fit(tiny_rows_split, tiny_policy_dir, tmp_path, seed=seed) for seed in (3, 3, 4))
    assert first.losses == second.losses != other.losses
    assert_same(first.parameters, second.parameters, atol=0)


def test_activation_checkpointing_changes_no_loss(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path):
    settings = {"weighting": ReMiT(), "reference": live(tiny_reference_dir), "steps": 6}
    plain, *saving = (
        fit(tiny_rows_split, tiny_policy_dir, tmp_path, activation_checkpointing=which, **settings)
        for which in (False, True, 2, "attention")
    )
    for run in saving:
        assert run.losses == pytest.approx(plain.losses, rel=1e-6)
        assert_same(run.parameters, plain.parameters)


def test_the_more_is_recomputed_the_less_is_kept(tiny_rows_split, tiny_policy_dir):
    def kept(which):
        policy = ModelSpec(str(tiny_policy_dir)).load("model.policy").train()
        recompute_activations(policy, which)
        sizes: list[int] = []

        def keep(tensor):
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            hidden_states(policy, {"input_ids": torch.zeros(2, 16, dtype=torch.long)})
        return sum(sizes)

    assert kept(True) < kept(2) < kept(False)
    assert kept(True) < kept("attention") < kept(False)


def test_activation_checkpointing_of_no_layer_is_refused(tiny_policy_dir):
    with pytest.raises(ConfigError, match=r"model\.activation_checkpointing: got 0; give true, false"):
        MidTrainingModule(ModelSpec(str(tiny_policy_dir)), torch.optim.AdamW, Horizon(1), activation_checkpointing=0)


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"compile": True}, {"compile": "layers"}, {"compile_loss": True}], ids=str)
def test_compilation_changes_no_loss(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path, how, capsys):
    settings = {"weighting": ReMiT(), "reference": live(tiny_reference_dir), "steps": 3}
    plain, summary = fit(tiny_rows_split, tiny_policy_dir, tmp_path, **settings), RunSummary()
    torch.compiler.reset()
    compiled = fit(tiny_rows_split, tiny_policy_dir, tmp_path, callbacks=[summary], **settings, **how)
    summary.print(compiled.trainer, compiled.module)
    (seconds,) = re.findall(r"^torch\.compile: (\d+\.\d) s of it$", capsys.readouterr().out, re.MULTILINE)
    assert float(seconds) > 0
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-5)
    assert compiled.parameters.keys() == plain.parameters.keys()


@pytest.mark.parametrize("precision", [None, "high"])
def test_the_precision_of_matrix_products_is_torchs_own_or_the_one_given(
    tiny_rows_split, tiny_policy_dir, tmp_path, monkeypatch, precision
):
    given: list[str] = []
    monkeypatch.setattr("torch.set_float32_matmul_precision", given.append)
    fit(tiny_rows_split, tiny_policy_dir, tmp_path, steps=1, matmul_precision=precision)
    assert given == [precision] * (precision is not None)


def test_bfloat16_autocast_trains_the_float32_weights(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path):
    settings = {"weighting": ReMiT(), "reference": live(tiny_reference_dir)}
    exact = fit(tiny_rows_split, tiny_policy_dir, tmp_path, **settings)
    mixed = fit(tiny_rows_split, tiny_policy_dir, tmp_path, trainer={"precision": "bf16-mixed"}, **settings)
    assert {value.dtype for value in mixed.parameters.values()} == {torch.float32}
    assert mixed.losses != exact.losses
    assert mixed.losses == pytest.approx(exact.losses, rel=2**-8)
