"""From the harness's samples to outcomes."""

from types import SimpleNamespace
from typing import Any

import pytest
from lm_eval.api import metrics as harness_metrics
from lm_eval.tasks.ifeval.utils import agg_inst_level_acc

from remit_lit.evaluation.outcomes import item_names, metrics_of, pooled


def task(**aggregations: Any) -> Any:
    return SimpleNamespace(aggregation=lambda: aggregations, higher_is_better=lambda: dict.fromkeys(aggregations, True))


def sample(doc_id: int, filter_name: str = "none", **values: Any) -> dict[str, Any]:
    return {
        "doc_id": doc_id,
        "doc_hash": f"{doc_id}abcdefghi",
        "filter": filter_name,
        "metrics": list(values),
        **values,
    }


def test_a_filter_is_named_only_among_others() -> None:
    samples = [sample(i, name, exact_match=value) for name, value in (("a", 1), ("b", 0)) for i in range(2)]
    exact = task(exact_match=harness_metrics.mean)
    assert {name: m.outcomes.tolist() for name, m in metrics_of(exact, samples).items()} == {
        "exact_match,a": [1, 1],
        "exact_match,b": [0, 0],
    }
    assert list(metrics_of(exact, samples[:2])) == ["exact_match"]
    assert item_names("t", samples) == ["t/0-0abcdefg", "t/1-1abcdefg"]


def test_what_is_no_mean_over_items_is_left_out() -> None:
    several = task(acc=harness_metrics.mean, f1=harness_metrics.f1_score, by_instruction=harness_metrics.mean)
    samples = [sample(i, acc=True, f1=(0, 1), by_instruction=[True, False]) for i in range(3)]
    assert list(metrics_of(several, samples)) == ["acc"]


def test_ifeval_is_measured_by_instruction_and_its_prompts_are_the_items() -> None:
    """A prompt of three instructions counts three times as much as one of a single one; they are not independent."""
    by_instruction = task(
        prompt_level_strict_acc=harness_metrics.mean,
        inst_level_strict_acc=agg_inst_level_acc,
        inst_level_loose_acc=agg_inst_level_acc,
    )
    strict: list[list[bool]] = [[True, False, False], [True], [True, True]]
    samples = [
        sample(i, prompt_level_strict_acc=all(found), inst_level_strict_acc=found, inst_level_loose_acc=[True])
        for i, found in enumerate(strict)
    ]
    found = metrics_of(by_instruction, samples)
    assert list(found) == ["prompt_level_strict_acc", "inst_level_strict_acc", "inst_level_loose_acc"]
    metric = found["inst_level_strict_acc"]
    assert metric.value == pytest.approx(4 / 6) == pytest.approx(agg_inst_level_acc(strict))
    assert metric.outcomes.tolist() == pytest.approx([1 / 3, 1, 1]) and metric.higher_is_better
    assert metric.weights is not None and metric.weights.tolist() == [3, 1, 2]
    assert found["inst_level_loose_acc"].value == 1


def test_bits_per_byte_are_pooled_by_bytes() -> None:
    bits = task(bits_per_byte=harness_metrics.bits_per_byte)
    samples = [sample(0, bits_per_byte=(-6.931471805599453, 5)), sample(1, bits_per_byte=(-20.79441541679836, 30))]
    metric = metrics_of(bits, samples)["bits_per_byte"]
    assert metric.outcomes.tolist() == pytest.approx([2.0, 1.0])
    assert metric.value == pytest.approx(40 / 35)
    assert metric.value == pytest.approx(harness_metrics.bits_per_byte([s["bits_per_byte"] for s in samples]))


def test_parts_are_pooled_over_what_all_have() -> None:
    both = task(acc=harness_metrics.mean, extra=harness_metrics.mean)
    parts = [metrics_of(both, [sample(0, acc=1, extra=0)]), metrics_of(both, [sample(0, acc=0), sample(1, acc=0)])]
    found = pooled(parts)
    assert list(found) == ["acc"] and found["acc"].outcomes.tolist() == [1, 0, 0]
