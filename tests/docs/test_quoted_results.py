"""What pages say of results is what the committed tables say."""

import csv
import statistics
from collections import defaultdict
from pathlib import Path

import pytest

from docs.quoted_results import RESULTS, on_page_markdown
from tests.processes import ROOT


def lab_differences(row: str) -> dict[str, dict[str, list[float]]]:
    """By method and base, differences of its runs to next-token prediction."""
    values: dict[str, dict[str, float]] = defaultdict(dict)
    bases = {}
    with (RESULTS / "lab" / "seeds.csv").open() as file:
        for line in csv.DictReader(file):
            if line["row"] == row and line["value"]:
                values[line["column"]][line["seed"]] = float(line["value"])
                bases[line["seed"]] = line["base_seed"]
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for method, runs in values.items():
        for seed, value in runs.items():
            found[method][bases[seed]].append(value - values["ntp"][seed])
    return found


def within_bases(differences: dict[str, list[float]]) -> float:
    return statistics.fmean(statistics.variance(runs) for runs in differences.values()) ** 0.5


PAGES = sorted(path for folder in ("results", "guides") for path in (ROOT / "docs" / folder).glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_quotes_is_there(page):
    text = on_page_markdown(page.read_text())
    assert "{{" not in text


def test_a_quotation_of_what_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="lab: no difference of 'GPT' in 'x'"):
        on_page_markdown("{{ difference lab | GPT | x }}")


def test_a_pair_that_has_no_runs_is_an_error():
    with pytest.raises(ValueError, match="lab: no runs of 'GPT' and 'NTP' in 'x' to pair"):
        on_page_markdown("{{ paired lab | GPT | NTP | x }}")


def test_a_pair_is_that_of_the_runs():
    remit, rho1 = (lab_differences("probability")[method] for method in ("remit", "rho1"))
    pairs = [a - b for base in remit for a, b in zip(remit[base], rho1[base], strict=True)]
    quoted = on_page_markdown("{{ paired lab | ReMiT 0.2 | RHO-1 | probability of correct results, % }}")
    assert quoted.startswith(f"{statistics.fmean(pairs):+.2f} \\[")


def test_a_difference_is_that_of_the_runs():
    quoted = on_page_markdown("{{ difference lab | ReMiT 0.2 | probability of correct results, % ↑ }}")
    runs = [run for block in lab_differences("probability")["remit"].values() for run in block]
    assert quoted.startswith(f"{statistics.fmean(runs):+.2f} \\[")


def test_the_readme_and_the_page_of_the_lab_have_the_figures_of_its_runs():
    readme, page = (Path(ROOT, name).read_text() for name in ("README.md", "docs/results/lab.md"))
    differences = lab_differences("probability")
    means = {
        m: statistics.fmean(run for block in blocks.values() for run in block) for m, blocks in differences.items()
    }
    for method in ("rho1", "miniplm", "distillation"):
        assert f"(+{means[method]:.1f})" in readme, method
    assert f"ends {means['remit']:.1f} points" in readme
    assert f"standard deviation of {within_bases(differences['remit']):.2f} points" in page
    assert f"probability and {within_bases(lab_differences('accuracy')['remit']):.1f} of exact traces" in page
