"""Distillation from a column of the teacher's most likely tokens: what it computes, what it loses, what it reads."""

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from remit_lit.data.columns import IDS, LOG_PROBABILITIES, of_distributions, shard_path
from remit_lit.data.manifest import read_manifest
from remit_lit.errors import ConfigError, DataError
from remit_lit.models.spec import ModelSpec
from remit_lit.models.top_tokens import TopTokens
from remit_lit.reference.reference import LiveReference
from remit_lit.reference.score import score
from remit_lit.training.callbacks.run_record import RunRecord
from remit_lit.training.distillation import Distillation, Divergence
from remit_lit.training.top_k_distillation import top_k_distillation_sum
from remit_lit.weighting import ReMiT
from tests.columns import stored
from tests.helpers import VOCAB, fit, get_batch

TOKENS, DIM, WORDS = 6, 4, 9


@pytest.fixture(scope="module")
def outputs() -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states and output embedding of a student, [1, tokens, dim] and [words, dim]; a teacher's logits."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, TOKENS, DIM), (WORDS, DIM), (1, TOKENS, WORDS)]
    hidden, weight, logits = (2 * torch.randn(shape, generator=generator) for shape in shapes)
    return hidden.requires_grad_(), weight.requires_grad_(), logits


def most_likely(logits: Tensor, k: int) -> TopTokens:
    values, ids = logits.log_softmax(-1).topk(k)
    return TopTokens(ids, values)


def slow_kl(p: list[float], q: list[float]) -> float:
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def slow_jensen_shannon(p: list[float], q: list[float]) -> float:
    mixture = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return (slow_kl(p, mixture) + slow_kl(q, mixture)) / 2


def events(p: list[float], chosen: list[int]) -> list[float]:
    """Probabilities of some words, and of all others together."""
    return [*(p[word] for word in chosen), math.fsum(value for word, value in enumerate(p) if word not in chosen)]


def pairs(outputs: tuple[Tensor, Tensor, Tensor]) -> list[tuple[list[float], list[float]]]:
    """Teacher's and student's probabilities of each token."""
    hidden, weight, logits = outputs
    student = (hidden.double() @ weight.double().T).softmax(-1)[0].tolist()
    return list(zip(logits.double().softmax(-1)[0].tolist(), student, strict=True))


def found(outputs: tuple[Tensor, Tensor, Tensor], k: int, weights: Tensor, settings: Distillation) -> Tensor:
    hidden, weight, logits = outputs
    return top_k_distillation_sum(hidden, (weight, None), most_likely(logits, k), weights, settings)


@pytest.mark.parametrize("chunk_tokens", [1, 4, 1024])
@pytest.mark.parametrize("k", [1, 3, WORDS - 1])
def test_divergences_are_those_of_k_words_and_the_rest(k, chunk_tokens, outputs):
    weights = torch.tensor([[1.0, 0.0, 2.0, 0.5, 1.0, 3.0]])
    expected: dict[Divergence, float] = {"forward_kl": 0.0, "reverse_kl": 0.0, "jensen_shannon": 0.0}
    for weight, (teacher, student) in zip(weights[0].tolist(), pairs(outputs), strict=True):
        chosen = sorted(range(WORDS), key=lambda word: -teacher[word])[:k]
        p, q = events(teacher, chosen), events(student, chosen)
        expected["forward_kl"] -= weight * math.fsum(a * math.log(b) for a, b in zip(p, q, strict=True))
        expected["reverse_kl"] += weight * slow_kl(q, p)
        expected["jensen_shannon"] += weight * slow_jensen_shannon(p, q)
    for divergence, value in expected.items():
        settings = Distillation(column="top", divergence=divergence, chunk_tokens=chunk_tokens)
        assert found(outputs, k, weights, settings).item() == pytest.approx(value, rel=1e-5, abs=1e-6)


def test_the_gradient_is_that_of_the_same_sum_written_out(outputs):
    hidden, weight, logits = outputs
    weights = torch.rand(1, TOKENS, generator=torch.Generator().manual_seed(1))
    total = found(outputs, 3, weights, Distillation(column="top", chunk_tokens=2))
    top = most_likely(logits, 3)
    student = (hidden @ weight.T).softmax(-1)
    chosen, p = student.gather(-1, top.ids), top.log_probabilities.exp()
    rest = (1 - p.sum(-1)) * (1 - chosen.sum(-1)).log()
    expected = -(weights * ((p * chosen.log()).sum(-1) + rest)).sum()
    ours = torch.autograd.grad(total, [hidden, weight], retain_graph=True)
    for gradient, wanted in zip(ours, torch.autograd.grad(expected, [hidden, weight]), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)


def test_what_is_lacking_of_the_kl_is_within_a_bound_that_falls_with_k(outputs):
    """It is the tail's probability times the KL within the tail, and so at most that times the largest log ratio."""
    lacking, bounds = [], []
    for k in range(1, WORDS):
        cross = found(outputs, k, torch.ones(1, TOKENS), Distillation(column="top")).item()
        exact = bound = joined = 0.0
        for teacher, student in pairs(outputs):
            order = sorted(range(WORDS), key=lambda word: -teacher[word])
            p, tail = events(teacher, order[:k]), order[k:]
            joined += cross / TOKENS + math.fsum(a * math.log(a) for a in p)
            exact += slow_kl(teacher, student)
            q_tail = events(student, order[:k])[-1]
            ratios = [math.log(teacher[word] / p[-1] * q_tail / student[word]) for word in tail]
            bound += p[-1] * max(ratios)
        lacking.append(exact - joined)
        bounds.append(bound)
    assert all(-1e-5 < lack <= bound + 1e-5 for lack, bound in zip(lacking, bounds, strict=True))
    assert lacking == sorted(lacking, reverse=True) and bounds == sorted(bounds, reverse=True)
    assert lacking[0] > 0.1 and abs(lacking[-1]) < 1e-5


def test_a_teacher_whose_stored_words_add_up_to_more_than_1_leaves_numbers_finite(outputs):
    hidden, weight, _ = outputs
    sure = TopTokens(torch.zeros(1, TOKENS, 1, dtype=torch.long), torch.full((1, TOKENS, 1), 1e-4))
    for divergence in ("forward_kl", "reverse_kl", "jensen_shannon"):
        settings = Distillation(column="top", divergence=divergence)
        total = top_k_distillation_sum(hidden, (weight, None), sure, torch.ones(1, TOKENS), settings)
        assert torch.isfinite(total) and torch.isfinite(torch.autograd.grad(total, hidden)[0]).all()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_column_holds_the_most_likely_words_of_whole_logits(dtype, rows, tiny_reference_dir):
    spec = ModelSpec(str(tiny_reference_dir))
    directory = score(str(rows), spec, "top", dtype=dtype, top_k=5, batch_tokens=300, verify=3)
    assert directory == rows / "distributions" / "train" / "top"
    column = stored(rows, of_distributions("top"))
    assert column.dtype[LOG_PROBABILITIES].base == np.dtype(dtype)
    batch = get_batch(rows, range(4))
    with torch.no_grad():
        expected = most_likely(spec.load()(**batch.inputs, use_cache=False).logits, 5)
    values = torch.from_numpy(column[LOG_PROBABILITIES][:4].astype(np.float32))
    # Words that are as good as equally likely may change places.
    torch.testing.assert_close(values, expected.log_probabilities, rtol=1e-3 if dtype == "float16" else 1e-5, atol=1e-5)
    assert (torch.from_numpy(column[IDS][:4].copy()) == expected.ids).float().mean() > 0.999


def test_one_name_may_stand_for_nlls_and_for_words(rows, tiny_reference_dir):
    spec = ModelSpec(str(tiny_reference_dir))
    nll, top = score(str(rows), spec, "rl"), score(str(rows), spec, "rl", top_k=2)
    assert nll != top and shard_path(nll, 0).is_file() and shard_path(top, 0).is_file()
    with pytest.raises(ConfigError, match="holds other scores"):
        score(str(rows), spec, "rl", top_k=3)


@pytest.mark.parametrize(
    ("top_k", "message"), [(0, "top_k: got 0"), (VOCAB, rf"top_k: got {VOCAB}; give less than the {VOCAB} tokens")]
)
@pytest.mark.usefixtures("no_weights")
def test_numbers_of_words_that_cannot_be_are_refused(top_k, message, tiny_rows, tiny_reference_dir):
    with pytest.raises(ConfigError, match=message):
        score(str(tiny_rows), ModelSpec(str(tiny_reference_dir)), "top", top_k=top_k)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_all_but_one_word_teach_what_a_live_teacher_does(
    precision, rows, tiny_policy_dir, tiny_reference_dir, tmp_path
):
    """With one word in the tail nothing is lost; the run loads no reference, and its cost is that of the scoring."""
    spec = ModelSpec(str(tiny_reference_dir))
    score(str(rows), spec, "top", dtype="float32", top_k=VOCAB - 1)
    options = {"steps": 3, "learning_rate": 0.5, "trainer": {"precision": precision}}
    live = fit(
        rows, tiny_policy_dir, tmp_path / "a", reference=LiveReference(spec), distillation=Distillation(), **options
    )
    settings = Distillation(column="top")
    cached = fit(rows, tiny_policy_dir, tmp_path / "b", distillation=settings, callbacks=[RunRecord()], **options)
    assert cached.losses == pytest.approx(live.losses, rel=1e-5 if precision == "32-true" else 1e-2)
    assert cached.module.references == []
    cost = json.loads((tmp_path / "b" / "run.json").read_text())["cost"]
    manifest = read_manifest(rows)
    assert cost["reference_flops"] == 0
    assert cost["scoring_flops"] > 2 * manifest.counts["train"]["rows"] * manifest.sequence_length * 10_000
    assert cost["first_run_flops"] == cost["policy_flops"] + cost["scoring_flops"]


def test_words_may_teach_beside_a_strategy_with_a_reference(rows, tiny_policy_dir, tiny_reference_dir, tmp_path):
    """ReMiT's live reference weighs, and the column teaches."""
    spec = ModelSpec(str(tiny_reference_dir))
    score(str(rows), spec, "one", top_k=1)
    options = {"steps": 1, "weighting": ReMiT(), "reference": LiveReference(spec)}
    taught = [
        fit(rows, tiny_policy_dir, tmp_path / str(n), distillation=Distillation(1.0, column=column), **options).losses
        for n, column in enumerate((None, "one"))
    ]
    assert taught[1][0] < taught[0][0] - 0.1  # two events have a smaller cross-entropy than 32


@pytest.mark.usefixtures("no_weights")
def test_a_column_that_is_not_there_or_damaged_is_refused(rows, tiny_policy_dir, tmp_path):
    with pytest.raises(ConfigError, match=r"no score column 'top' \(these rows have none\); write it with"):
        fit(rows, tiny_policy_dir, tmp_path, distillation=Distillation(column="top"))


def test_a_damaged_column_is_refused(rows, tiny_policy_dir, tiny_reference_dir, tmp_path):
    shard = shard_path(score(str(rows), ModelSpec(str(tiny_reference_dir)), "top", top_k=2), 0)
    content = bytearray(shard.read_bytes())
    content[-20] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match="checksum differs"):
        fit(rows, tiny_policy_dir, tmp_path, distillation=Distillation(column="top"))


def test_a_column_knows_temperature_1_only():
    with pytest.raises(ConfigError, match=r"model\.distillation\.temperature: got 2.0, but a column holds"):
        Distillation(temperature=2.0, column="top")
