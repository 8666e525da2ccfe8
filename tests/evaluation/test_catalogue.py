"""What names of tasks stand for."""

from pathlib import Path

import pytest

from remit_lit.benchmarks.catalogue import Catalogue, Unit
from remit_lit.errors import ConfigError


@pytest.fixture
def found(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path)


def names(units: list[Unit]) -> list[str]:
    return [unit.name for unit in units]


def test_groups_stand_for_their_members_each_once(found: Catalogue) -> None:
    units = found.resolve(["offline_mmlu", "lab", "remit_offline_likelihood", "lab"])
    assert names(units)[:3] == ["offline_mmlu", "lab", "offline_gsm8k_bpb"]
    assert len(set(names(units))) == len(units) == 9


def test_a_group_that_is_averaged_is_one_result(found: Catalogue) -> None:
    (unit,) = found.resolve(["offline_math"])
    assert len(unit.leaves) == 7 and all(leaf.is_ours and not leaf.runs_code for leaf in unit.leaves)


def test_our_tasks_are_found_without_reading_those_of_the_harness(found: Catalogue) -> None:
    found.resolve(["remit_offline", "lab"])
    assert "_all" not in vars(found)


def test_the_papers_ten_are_planned_with_the_examples_of_our_file(found: Catalogue, few_tasks: None) -> None:
    units = {unit.name: unit for unit in found.resolve(["remit_paper"])}
    examples = {name: {leaf.changes.get("num_fewshot") for leaf in unit.leaves} for name, unit in units.items()}
    assert examples == {
        "gsm8k": {8},
        "math": {4},
        "gpqa_main_n_shot": {5},
        "bbh_cot_fewshot": {3},
        "ifeval": {0},
        "offline_humaneval": {None},
        "offline_mbpp": {None},
        "triviaqa": {5},
        "truthfulqa_mc1": {0},
        "arc_challenge": {25},
        "mmlu_pro": {5},
    }
    sizes = {name: len(unit.leaves) for name, unit in units.items() if len(unit.leaves) > 1}
    assert sizes == {"math": 7, "bbh_cot_fewshot": 27, "mmlu_pro": 14}


def test_the_papers_ten_are_asked_without_examples_after_post_training(found: Catalogue, few_tasks: None) -> None:
    units = {unit.name: unit for unit in found.resolve(["remit_paper_zero_shot"])}
    assert list(units) == [
        "gsm8k",
        "math",
        "gpqa_main_zeroshot",
        "bbh_cot_zeroshot",
        "ifeval",
        "offline_humaneval",
        "offline_mbpp",
        "truthfulqa_mc1",
        "triviaqa",
        "arc_challenge",
        "mmlu_pro",
    ]
    examples = {leaf.changes.get("num_fewshot") for unit in units.values() for leaf in unit.leaves}
    assert examples == {0}
    sizes = {name: len(unit.leaves) for name, unit in units.items() if len(unit.leaves) > 1}
    assert sizes == {"math": 7, "bbh_cot_zeroshot": 27, "mmlu_pro": 14}


def test_a_tag_stands_for_its_tasks(found: Catalogue, few_tasks: None) -> None:
    assert set(names(found.resolve(["ai2_arc"]))) == {"arc_easy", "arc_challenge"}


def test_an_unknown_name_is_refused_with_near_ones(found: Catalogue, few_tasks: None) -> None:
    with pytest.raises(ConfigError, match=r"no task 'ofline_gsm8k'; did you mean offline_gsm8k or "):
        found.resolve(["lab", "ofline_gsm8k"])
    with pytest.raises(ConfigError, match=r"no task 'zzz'; `lm_eval ls tasks`"):
        found.resolve(["zzz"])
    with pytest.raises(ConfigError, match=r"got none"):
        found.resolve([])


def test_one_name_for_two_results_is_refused(found: Catalogue, few_tasks: None) -> None:
    with pytest.raises(ConfigError, match="arc_challenge is named twice with different settings"):
        found.resolve(["arc_challenge", "remit_paper"])


def test_code_in_this_process_is_refused(found: Catalogue, few_tasks: None) -> None:
    with pytest.raises(ConfigError, match=r"humaneval would run .* offline_humaneval"):
        found.resolve(["humaneval"])
    assert found.resolve(["offline_humaneval"])[0].leaves[0].runs_code


@pytest.mark.slow
def test_the_whole_catalogue_has_the_papers_tasks_and_ours(found: Catalogue) -> None:
    assert len(found.resolve(["remit_paper", "remit_offline", "mmlu", "hellaswag"])) > 20
