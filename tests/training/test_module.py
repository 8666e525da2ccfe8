from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from remit_lit.data.batch import Batch
from remit_lit.errors import ConfigError, NonFiniteError
from remit_lit.models.loss_head import hidden_states, loss_head
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import CachedReference, LiveReference
from remit_lit.training.distillation import Distillation
from remit_lit.training.module import MidTrainingModule
from remit_lit.training.objective import weighted_loss
from remit_lit.training.optimization import Horizon, Linear, parameter_groups
from remit_lit.weighting import MiniPLM, NextTokenPrediction, ReMiT, Rho1, TokenSignals, TokenWeighting
from tests.helpers import TIME, VOCAB, Run, build, fit, get_batch, save_model
from tests.weighting import slow
from tests.weighting.custom_strategy import HardTokens

CPU = torch.device("cpu")
NEUTRAL = torch.tensor([0, 1])


class Declared(TokenWeighting):
    """Another strategy, said to have this scope."""

    def __init__(self, strategy: TokenWeighting, scope: Any) -> None:
        self.strategy, self.scope, self.detach = strategy, scope, strategy.detach

    def weights(self, signals: TokenSignals) -> Tensor:
        return self.strategy.weights(signals)

    def normalizer(self, weights: Tensor, mask: Tensor) -> Tensor:
        return self.strategy.normalizer(weights, mask)


def live(directory: Any) -> LiveReference:
    reference = LiveReference(ModelSpec(str(directory)))
    reference.load(reference.spec, CPU)
    return reference


def logits_of(model: Any, batch: Batch) -> Tensor:
    logits: Tensor = model(**batch.inputs, use_cache=False).logits
    return logits


def nll_of(model: Any, batch: Batch) -> Tensor:
    logits = logits_of(model, batch)
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.targets, reduction="none")


def gradients_of(model: Any) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], atol: float = 1e-6) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=atol)


# --- The loss of a batch ---


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
@pytest.mark.parametrize(
    "weighting",
    [NextTokenPrediction(), ReMiT(), ReMiT(center="segment"), Rho1(scope="row"), Rho1()],
    ids=["ntp", "remit", "remit-segment", "rho1-row", "rho1"],
)
def test_the_loss_equals_full_logits(tiny_rows_split, tiny_reference_dir, tmp_path, tied, z_loss, weighting):
    directory = save_model(tmp_path, 4, tie_word_embeddings=tied)
    policy, plain = ModelSpec(str(directory)).load(), AutoModelForCausalLM.from_pretrained(directory)
    batch, reference_nll = get_batch(tiny_rows_split, range(5)), None
    reference_nll = live(tiny_reference_dir).nll(batch)
    loss = weighted_loss(policy, batch, weighting, neutral_ids=NEUTRAL, reference_nll=reference_nll, z_loss=z_loss)
    nll, mask = nll_of(plain, batch), batch.mask
    signals = TokenSignals(nll.detach(), mask, reference_nll, batch.segment_ids, batch.targets <= 1)
    if isinstance(weighting, ReMiT):
        weights = torch.tensor(slow.remit(signals, center=weighting.center))
    else:
        is_rho1 = isinstance(weighting, Rho1)
        weights = torch.tensor(slow.rho1(signals, scope=weighting.scope) if is_rho1 else slow.ntp(signals))
    normalizer = weights.sum() if isinstance(weighting, Rho1) else mask.sum()
    expected = (weights * (nll + z_loss * logits_of(plain, batch).logsumexp(-1) ** 2)).sum() / normalizer
    assert loss.normalizer == normalizer
    torch.testing.assert_close(loss.weights, weights, rtol=0, atol=2e-6)
    torch.testing.assert_close(loss.nll, nll.detach(), rtol=1e-5, atol=1e-6)
    found = loss.total / loss.normalizer
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    found.backward()
    expected.backward()
    assert not loss.nll.requires_grad and not loss.weights.requires_grad
    assert_same(gradients_of(policy), gradients_of(plain))


@pytest.mark.parametrize("z_loss", [0.0, 0.01])
@pytest.mark.parametrize(
    "weighting",
    [NextTokenPrediction(), ReMiT(), ReMiT(center="segment", clip=False), Rho1(scope="row"), HardTokens()],
    ids=["ntp", "remit", "remit-segment", "rho1-row", "custom"],
)
def test_both_paths_of_the_loss_agree(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, z_loss, weighting):
    policy, batch = ModelSpec(str(tiny_policy_dir)).load(), get_batch(tiny_rows_split, range(5))
    reference_nll = live(tiny_reference_dir).nll(batch)
    results = []
    for strategy in (Declared(weighting, "row"), Declared(weighting, "batch")):
        loss = weighted_loss(policy, batch, strategy, neutral_ids=NEUTRAL, reference_nll=reference_nll, z_loss=z_loss)
        gradients = torch.autograd.grad(loss.total / loss.normalizer, list(policy.parameters()))
        results.append((loss, gradients))
    (one, first), (two, second) = results
    torch.testing.assert_close(one.total, two.total, rtol=1e-6, atol=0)
    assert torch.equal(one.nll, two.nll) and torch.equal(one.weights, two.weights) and one.normalizer == two.normalizer
    for gradient, other in zip(first, second, strict=True):
        torch.testing.assert_close(gradient, other, rtol=0, atol=1e-6)


def test_undetached_weights_send_gradients(tiny_rows_split, tiny_policy_dir, tiny_reference_dir):
    batch = get_batch(tiny_rows_split, range(5))
    reference_nll, mask = live(tiny_reference_dir).nll(batch), batch.mask
    gradients = {}
    for detach in (True, False):
        policy = ModelSpec(str(tiny_policy_dir)).load()
        weighting = ReMiT(epsilon=0.6, slope=0.7, detach=detach)
        loss = weighted_loss(policy, batch, weighting, neutral_ids=NEUTRAL, reference_nll=reference_nll)
        assert not loss.weights.requires_grad
        (loss.total / loss.normalizer).backward()
        gradients[detach] = gradients_of(policy)

        plain = AutoModelForCausalLM.from_pretrained(tiny_policy_dir)
        nll, ranked = nll_of(plain, batch), mask & (batch.targets > 1)
        delta = (nll.detach() if detach else nll) - reference_nll
        mean = (delta * ranked).sum(1, keepdim=True) / ranked.sum(1, keepdim=True)
        weights = (2 / (1 + torch.exp(-0.7 * (delta - mean)))).clamp(0.4, 1.6)
        ((torch.where(ranked, weights, 1.0) * nll)[mask].sum() / mask.sum()).backward()
        assert_same(gradients[detach], gradients_of(plain))
    assert max((gradients[True][n] - gradients[False][n]).abs().max() for n in gradients[True]) > 1e-3


# --- A run ---


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
def test_special_and_named_tokens_are_neutral(tiny_rows, tiny_policy_dir, tiny_reference_dir, tmp_path, neutral):
    run = fit(
        tiny_rows,
        tiny_policy_dir,
        tmp_path,
        steps=1,
        weighting=ReMiT(),
        reference=live(tiny_reference_dir),
        neutral_special_tokens=neutral,
        neutral_token_ids=[5, 7],
    )
    targets = get_batch(tiny_rows, run.recorder.rows[0]).targets
    weights = run.recorder.weights[0]
    for token, expected in {1: neutral, 5: True, 7: True, 6: False, 8: False}.items():
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
    plain, saving = (
        fit(tiny_rows_split, tiny_policy_dir, tmp_path, activation_checkpointing=on, **settings) for on in (False, True)
    )
    assert saving.policy.is_gradient_checkpointing and not plain.policy.is_gradient_checkpointing
    assert saving.losses == pytest.approx(plain.losses, rel=1e-6)
    assert_same(saving.parameters, plain.parameters)


@pytest.mark.slow
def test_compilation_changes_no_loss(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path):
    settings = {"weighting": ReMiT(), "reference": live(tiny_reference_dir), "steps": 3}
    plain, compiled = (fit(tiny_rows_split, tiny_policy_dir, tmp_path, compile=on, **settings) for on in (False, True))
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-5)
    assert compiled.parameters.keys() == plain.parameters.keys()


def test_bfloat16_autocast_trains_the_float32_weights(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path):
    settings = {"weighting": ReMiT(), "reference": live(tiny_reference_dir)}
    exact = fit(tiny_rows_split, tiny_policy_dir, tmp_path, **settings)
    mixed = fit(tiny_rows_split, tiny_policy_dir, tmp_path, trainer={"precision": "bf16-mixed"}, **settings)
    assert {value.dtype for value in mixed.parameters.values()} == {torch.float32}
    assert mixed.losses != exact.losses
    assert mixed.losses == pytest.approx(exact.losses, rel=2**-8)


def test_validation_takes_the_mean_over_the_tokens_of_each_source(tiny_rows_split, tiny_policy_dir, tmp_path):
    run, data = build(tiny_rows_split, tiny_policy_dir, tmp_path, batch_size=4, trainer={"limit_val_batches": 1.0})
    (found,) = run.trainer.validate(run.module, data, verbose=False)
    model, rows = (
        AutoModelForCausalLM.from_pretrained(tiny_policy_dir),
        range(data.manifest.counts["validation"]["rows"]),
    )
    batch = get_batch(tiny_rows_split, rows, split="validation")
    with torch.no_grad():
        nll = nll_of(model, batch)
    counted = batch.mask
    for index, source in enumerate(("web", "correct")):
        chosen = counted & (batch.source_ids == index)
        assert found[f"val/nll/{source}"] == pytest.approx(nll[chosen].double().mean().item(), rel=1e-6)
    assert found["val/nll"] == pytest.approx(nll[counted].double().mean().item(), rel=1e-6)


# --- What goes wrong ---


class Poison(pl.Callback):
    """Spoil the weights, or the gradients, from ``step`` on."""

    def __init__(self, step: int, *, gradient: bool = False) -> None:
        self.step, self.gradient = step, gradient

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step and not self.gradient:
            with torch.no_grad():
                pl_module.policy.model.layers[0].mlp.up_proj.weight[3, 3] = float("nan")

    def on_after_backward(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.global_step == self.step and self.gradient:
            pl_module.policy.model.layers[0].mlp.up_proj.weight.grad[3, 3] = float("inf")


def check_last_checkpoint(run: Run, checkpoint: ModelCheckpoint, policy: Any, step: int) -> None:
    saved = torch.load(checkpoint.last_model_path, weights_only=False)
    assert saved["global_step"] == step
    assert all(torch.isfinite(value).all() for value in saved["state_dict"].values())
    assert all(torch.isfinite(p).all() for p in saved["optimizer_states"][0]["state"].get(0, {}).values())
    model = AutoModelForCausalLM.from_pretrained(policy)
    model.load_state_dict({name.removeprefix("policy."): value for name, value in saved["state_dict"].items()})


@pytest.mark.parametrize("gradient", [False, True], ids=["loss", "gradient"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_that_breaks_stops_and_keeps_the_last_checkpoint(
    tiny_rows_split, tiny_policy_dir, tmp_path, gradient, accumulate
):
    clean = fit(tiny_rows_split, tiny_policy_dir, tmp_path, accumulate=accumulate)
    checkpoint = ModelCheckpoint(tmp_path / "checkpoints", every_n_train_steps=1, save_last=True)
    run, data = build(
        tiny_rows_split,
        tiny_policy_dir,
        tmp_path,
        accumulate=accumulate,
        optimizer=partial(torch.optim.Adam, lr=1e-3),
        callbacks=[checkpoint, Poison(2, gradient=gradient)],
    )
    rows = clean.recorder.rows[2] if gradient else clean.recorder.rows[2][:2]
    with pytest.raises(NonFiniteError, match=r"step 2.*(inf|nan)") as raised:
        run.trainer.fit(run.module, datamodule=data)
    assert str(rows) in str(raised.value)
    check_last_checkpoint(run, checkpoint, tiny_policy_dir, step=2)


def test_a_run_with_an_absurd_learning_rate_stops(tiny_rows_split, tiny_policy_dir, tmp_path):
    clean = fit(tiny_rows_split, tiny_policy_dir, tmp_path)
    checkpoint = ModelCheckpoint(tmp_path / "checkpoints", every_n_train_steps=1, save_last=True)
    with pytest.raises(NonFiniteError, match=r"step 1.*(inf|nan)") as raised:
        fit(tiny_rows_split, tiny_policy_dir, tmp_path, learning_rate=1e30, callbacks=[checkpoint])
    assert str(clean.recorder.rows[1]) in str(raised.value)
    saved = torch.load(checkpoint.last_model_path, weights_only=False)
    assert saved["global_step"] == 1
    assert all(torch.isfinite(value).all() for value in saved["state_dict"].values())


def test_what_contradicts_itself_is_refused(tiny_policy_dir, tmp_path):
    def module(policy: Any = None, **settings: Any) -> MidTrainingModule:
        spec = policy or ModelSpec(str(tiny_policy_dir))
        return MidTrainingModule(spec, torch.optim.SGD, **({"horizon": Horizon(steps=1)} | settings))

    for weighting in (ReMiT(), Rho1(), MiniPLM()):
        with pytest.raises(ConfigError, match=rf"model\.reference: {type(weighting).__name__} compares"):
            module(weighting=weighting)
    for reference, given in ((None, "none"), (CachedReference("nll_rl"), "CachedReference")):
        with pytest.raises(ConfigError, match=rf"model\.reference: distillation .* got {given}, give a LiveReference"):
            module(distillation=Distillation(), reference=reference)
    for value in (-1e-5, float("nan")):
        with pytest.raises(ConfigError, match=rf"model\.z_loss: got {value}"):
            module(z_loss=value)
    with pytest.raises(ConfigError, match="horizon: got"):
        module(horizon=Horizon())
    with pytest.raises(ConfigError, match=r"policy\.path: no directory"):
        module(ModelSpec(str(tmp_path / "nowhere")))
    with pytest.raises(ConfigError, match="policy: give either path"):
        module(ModelSpec())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trainer": {"precision": "16-true"}}, r"trainer\.precision: got 16-true"),
        ({"trainer": {"max_epochs": 2}}, r"trainer\.max_epochs: got 2"),
        ({"trainer": {"max_steps": 5}}, r"trainer\.max_steps: got 5.*horizon of 4"),
        ({"horizon": Horizon(tokens=99)}, r"horizon\.tokens: got 99, less than one step of 100"),
    ],
)
def test_what_does_not_fit_the_run_is_refused(tiny_rows_split, tiny_policy_dir, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        fit(tiny_rows_split, tiny_policy_dir, tmp_path, **settings)


def test_rows_longer_than_the_policy_reads_are_refused(tiny_rows, tmp_path):
    short = save_model(tmp_path / "short", 1, max_position_embeddings=TIME - 1)
    with pytest.raises(ConfigError, match="policy: reads at most 131 tokens"):
        fit(tiny_rows, short, tmp_path)


# --- Parameters and architectures ---


def decays(group: dict[str, Any], model: nn.Module) -> set[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)] for parameter in group["params"]}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("no_decay", [[], ["embeddings"], ["vectors"], ["embeddings", "vectors"]], ids="-".join)
def test_weight_decay_spares_what_is_named(tiny_rows_split, tmp_path, tied, no_decay):
    directory = save_model(tmp_path / "policy", 1, tie_word_embeddings=tied)

    def run(weight_decay: float) -> Run:
        optimizer = partial(torch.optim.SGD, lr=0.5, weight_decay=weight_decay)
        return fit(tiny_rows_split, directory, tmp_path, steps=1, optimizer=optimizer, no_decay=no_decay)

    initial = AutoModelForCausalLM.from_pretrained(directory).state_dict()
    kept, decayed = run(0.0).parameters, run(0.2).parameters
    for name, value in kept.items():
        spared = ("embeddings" in no_decay and "embed_tokens" in name) or ("vectors" in no_decay and "norm" in name)
        expected = value if spared else value - 0.5 * 0.2 * initial[name]
        torch.testing.assert_close(decayed[name], expected, rtol=0, atol=1e-6)


def test_every_trained_parameter_is_in_one_group():
    model = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 2), nn.LayerNorm(2))
    model[1].bias.requires_grad_(False)
    groups = parameter_groups(model, ["embeddings", "vectors"])
    assert [decays(group, model) for group in groups] == [{"1.weight"}, {"0.weight", "2.weight", "2.bias"}]
    assert groups[1]["weight_decay"] == 0.0 and "weight_decay" not in groups[0]
    assert [decays(group, model) for group in parameter_groups(model, [])] == [
        {"0.weight", "1.weight", "2.weight", "2.bias"}
    ]


TINY = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": None}
LLAMA_LIKE = TINY | {"intermediate_size": 48, "num_key_value_heads": 2, "initializer_range": 0.2}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": LLAMA_LIKE | {"tie_word_embeddings": False},
    "llama-tied": LLAMA_LIKE | {"model_type": "llama", "tie_word_embeddings": True},
    "olmo2": LLAMA_LIKE,
    "smollm3": LLAMA_LIKE | {"no_rope_layer_interval": 2},
    "qwen3": LLAMA_LIKE | {"head_dim": 8},
    "mistral": LLAMA_LIKE | {"sliding_window": 5},
    "phi": LLAMA_LIKE,
    "gpt2": {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.2},
    "gpt_neox": TINY | {"intermediate_size": 48, "initializer_range": 0.2},
}


def load_family(name: str, tokenizer: Any, attention: str = "sdpa", **changes: Any) -> Any:
    torch.manual_seed(0)
    config = {"model_type": name, "max_position_embeddings": TIME} | FAMILIES.get(name, LLAMA_LIKE) | changes
    model = ModelSpec(config=config, tokenizer=str(tokenizer), attn_implementation=attention).load()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 1.0 if (parameter == 1).all() else 0.0, 0.3)
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_families_of_models_give_the_loss_of_their_logits(tiny_rows_split, tiny_tokenizer_dir, family):
    model = load_family(family, tiny_tokenizer_dir)
    batch = get_batch(tiny_rows_split, range(3))
    loss = weighted_loss(model, batch, NextTokenPrediction(), neutral_ids=NEUTRAL)
    expected = nll_of(model, batch)
    torch.testing.assert_close(loss.nll, expected.detach(), rtol=1e-5, atol=1e-5)
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss.total / loss.normalizer, parameters, allow_unused=True)
    wanted = torch.autograd.grad(expected.sum() / loss.normalizer, parameters, allow_unused=True)
    for gradient, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-5)


def test_a_head_keeps_its_logits_and_its_tie(tiny_policy_dir, tmp_path):
    model, plain = ModelSpec(str(tiny_policy_dir)).load(), AutoModelForCausalLM.from_pretrained(tiny_policy_dir)
    ids = torch.arange(8)[None]
    assert torch.equal(model(ids).logits, plain(ids).logits)
    assert loss_head(model).weight is model.get_input_embeddings().weight
    assert model.state_dict().keys() == plain.state_dict().keys()
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(ids).logits, plain(ids).logits)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("gemma2", {"head_dim": 8, "final_logit_softcapping": 30.0, "initializer_range": 0.02}),
        ("gemma2", {"head_dim": 8, "final_logit_softcapping": 3.0}),
        ("granite", {"logits_scaling": 8.0, "initializer_range": 0.02}),
        ("granite", {"logits_scaling": 8.0, "pad_token_id": 0}),
        ("cohere", {"logit_scale": 0.0625}),
    ],
    ids=["gemma2", "gemma2-wide", "granite", "granite-padded-by-0", "cohere"],
)
def test_scaled_or_capped_logits_are_refused(tiny_tokenizer_dir, family, changes):
    with pytest.raises(ConfigError, match="scales or caps its logits"):
        load_family(family, tiny_tokenizer_dir, "eager", **changes)


def test_the_same_family_without_the_cap_is_accepted(tiny_rows_split, tiny_tokenizer_dir):
    model = load_family("gemma2", tiny_tokenizer_dir, "eager", head_dim=8, final_logit_softcapping=None)
    batch = get_batch(tiny_rows_split, range(2))
    loss = weighted_loss(model, batch, NextTokenPrediction(), neutral_ids=NEUTRAL)
    torch.testing.assert_close(loss.nll, nll_of(model, batch).detach(), rtol=1e-5, atol=1e-5)


def test_broken_weights_are_not_taken_for_scaled_logits(tiny_rows_split, tiny_reference_dir, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_reference_dir)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    model.save_pretrained(tmp_path)
    broken = ModelSpec(str(tmp_path), tokenizer=str(tiny_reference_dir))
    with pytest.raises(NonFiniteError, match=r"step 0: the loss of rows .* is nan"):
        fit(tiny_rows_split, broken, tmp_path / "run")


# --- Documents in a row ---


def nll_of_documents(model: Any, rows: Any, indices: range) -> Tensor:
    """NLL of each document of the rows, computed on its own; zero where a row has no target."""
    batch = get_batch(rows, indices)
    expected = torch.zeros(batch.targets.shape)
    for row, positions in enumerate(batch.position_ids):
        starts = [*(positions == 0).nonzero().flatten().tolist(), len(positions)]
        for start, stop in pairwise(starts):
            ids = batch.input_ids[row : row + 1, start:stop]
            with torch.no_grad():
                logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
            nll = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
            expected[row, start : stop - 1] = nll
    return expected


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_documents_score_as_they_do_alone(tiny_rows_split, tiny_tokenizer_dir, family, attention):
    model, indices = load_family(family, tiny_tokenizer_dir, attention), range(3)
    batch = get_batch(tiny_rows_split, indices)
    found = weighted_loss(model, batch, NextTokenPrediction(), neutral_ids=NEUTRAL).nll
    torch.testing.assert_close(found, nll_of_documents(model, tiny_rows_split, indices), rtol=0, atol=1e-5)
    assert (found[~batch.mask] == 0).all()


def test_packed_documents_see_each_other_where_they_may(tiny_rows_split, tiny_policy_dir):
    model, indices = ModelSpec(str(tiny_policy_dir)).load(), range(3)
    batch = get_batch(tiny_rows_split, indices, document_attention=False)
    found = weighted_loss(model, batch, NextTokenPrediction(), neutral_ids=NEUTRAL).nll
    with torch.no_grad():
        logits = model(input_ids=batch.input_ids, use_cache=False).logits[:, :-1]
    expected = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.input_ids[:, 1:], reduction="none")
    torch.testing.assert_close(found[:, :-1], expected, rtol=0, atol=1e-5)
    assert (found - nll_of_documents(model, tiny_rows_split, indices)).abs()[batch.position_ids > 33].max() > 0.1


@pytest.mark.parametrize("family", ["llama", "smollm3", "gpt2"])
def test_rows_joined_for_flash_attention_score_as_they_do_apart(
    tiny_rows_split, tiny_tokenizer_dir, monkeypatch, family
):
    model, indices = load_family(family, tiny_tokenizer_dir, "eager"), range(3)
    batch = get_batch(tiny_rows_split, indices)
    shapes: list[tuple[int, ...]] = []

    class Named(str):
        """Equal to "eager", so that transformers computes with that, yet it names flash attention."""

        def __contains__(self, part: object) -> bool:
            return part == "flash" or str.__contains__(self, str(part))

    monkeypatch.setattr(model.config, "_attn_implementation_internal", Named("eager"))
    hook = model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    hidden = hidden_states(model, batch.inputs)
    assert shapes == [(1, 3 * 50)] and hidden.shape == (3, 50, 32)
    nll = torch.nn.functional.cross_entropy(loss_head(model)(hidden).transpose(1, 2), batch.targets, reduction="none")
    monkeypatch.undo()
    hook.remove()
    torch.testing.assert_close(nll, nll_of_documents(model, tiny_rows_split, indices), rtol=0, atol=1e-5)
