"""The figures of others: against a transcription by benchmark, and against what such figures can be."""

from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.errors import ConfigError
from remit_lit.tables.published import read_published
from remit_lit.tables.settings import Published
from tests.processes import ROOT

FILE = ROOT / "baselines" / "results.yaml"
METHODS = ("pre_trained", "ntp", "miniplm", "rho1", "remit")
# Table 1 of arXiv:2602.03075v1 read column by column, where the file has it line by line: a benchmark's five methods.
TRANSCRIBED = {
    "olmo2_1b": """
        gsm8k          3.03 48.14 48.45 50.42 61.64
        math           2.94 10.26  9.60 10.32 14.50
        gpqa          20.31 22.54 23.21 25.45 24.55
        bbh           28.43 30.87 30.38 29.33 32.07
        ifeval        22.66 16.19 16.79 19.06 28.54
        humaneval      6.71  8.54  7.32  6.71 12.80
        mbpp           4.80  4.60  6.80  6.20  9.20
        truthfulqa    21.30 22.40 23.13 23.38 25.58
        arc_challenge 44.71 46.67 45.31 46.42 49.23
        mmlu_pro       9.54 13.31 13.15 13.68 17.44
        average       16.44 22.35 22.41 23.10 27.56""",
    "smollm3_3b": """
        gsm8k         31.61 64.22 60.65 62.93 63.76
        math          14.52 31.64 30.84 28.70 31.68
        gpqa          27.68 26.34 26.34 26.56 26.12
        bbh           43.13 56.50 57.10 55.32 58.27
        ifeval        22.06 43.29 41.49 38.73 45.68
        humaneval     25.61 28.05 29.88 31.10 37.20
        mbpp          37.40 47.60 48.00 43.80 49.60
        truthfulqa    30.23 29.74 29.13 28.52 31.95
        arc_challenge 56.31 53.24 53.58 54.10 54.69
        mmlu_pro      23.24 30.68 29.52 28.19 30.73
        average       31.18 41.13 40.65 39.80 42.97""",
    "youtu_llm_2b": """
        gsm8k         34.87 49.51 51.86 42.46 52.69
        math          15.30 25.00 22.76 16.44 24.50
        gpqa          22.99 27.90 26.34 26.79 29.69
        bbh           43.39 44.37 44.20 40.45 47.21
        ifeval        23.26 32.61 33.09 32.01 36.93
        humaneval     25.00 37.20 35.98 27.44 39.94
        mbpp          38.80 46.60 47.00 39.20 47.00
        truthfulqa    27.54 26.56 26.56 26.68 27.42
        arc_challenge 52.30 53.33 53.75 49.23 54.61
        mmlu_pro      19.96 24.93 25.34 21.69 25.85
        average       30.34 36.80 36.69 32.24 38.58""",
}
# Items of each benchmark, whose shares the figures are; BBH and MMLU-Pro have so many that any figure is one.
ITEMS = {
    "gsm8k": 1319,
    "math": 5000,
    "gpqa": 448,
    "ifeval": 834,
    "humaneval": 164,
    "mbpp": 500,
    "truthfulqa": 817,
    "arc_challenge": 1172,
}
SLIPS = {("youtu_llm_2b", "humaneval", "remit")}  # 39.94 % of 164 is printed, and is no number of problems


@pytest.fixture(scope="module")
def content() -> Any:
    return yaml.safe_load(FILE.read_text())


def transcribed(family: str) -> dict[tuple[str, str], float]:
    lines = [line.split() for line in TRANSCRIBED[family].split("\n") if line.strip()]
    return {
        (name, method): float(figure)
        for name, *figures in lines
        for method, figure in zip(METHODS, figures, strict=True)
    }


@pytest.mark.parametrize("family", TRANSCRIBED)
def test_every_figure_is_that_of_the_transcription(family: str, content: Any) -> None:
    found, source = read_published(Published(str(FILE), family))
    claims = {(row, method) for method, rows in content["claims"][family].items() for row in rows}
    assert {place: value for place, value in found.items() if place not in claims} == transcribed(family)
    assert "2602.03075" in source and "table 1" in source


def test_every_family_has_every_method_and_benchmark(content: Any) -> None:
    assert set(content) == {"source", "benchmarks", "families", "claims"}
    assert set(content["families"]) == set(TRANSCRIBED)
    assert len(set(content["benchmarks"])) == 11
    for family in content["families"].values():
        assert tuple(family) == METHODS and {len(figures) for figures in family.values()} == {11}


@pytest.mark.parametrize("family", TRANSCRIBED)
def test_averages_and_gains_follow_from_the_figures(family: str, content: Any) -> None:
    figures = content["families"][family]
    for *ten, average in figures.values():
        assert sum(ten) / 10 == pytest.approx(average, abs=0.0051)
    gain = figures["remit"][-1] - figures["ntp"][-1]
    assert content["claims"][family]["remit"]["gain"] == pytest.approx(gain)


@pytest.mark.parametrize("family", TRANSCRIBED)
def test_every_figure_is_a_share_of_its_benchmarks_items(family: str, content: Any) -> None:
    for method, figures in content["families"][family].items():
        for name, figure in zip(content["benchmarks"], figures, strict=True):
            if name in ITEMS and (family, name, method) not in SLIPS:
                assert round(100 * round(figure / 100 * ITEMS[name]) / ITEMS[name], 2) == figure, (name, method)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "olmo"}, "published.family: got 'olmo'; .* has olmo2_1b, smollm3_3b, youtu_llm_2b"),
        ({"file": "none.yaml"}, "published.file: no file 'none.yaml'"),
    ],
)
def test_what_is_not_there_is_refused_by_name(change: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_published(Published(**{"file": str(FILE), "family": "olmo2_1b", **change}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source: x\n", "must have source, benchmarks and families"),
        ("source: x\nbenchmarks: [a, b]\nfamilies: {f: {ntp: [1.0]}}\n", "families.f.ntp has 1 figures for 2"),
        ("source: x\nbenchmarks: [a]\nfamilies: {f: {ntp: [many]}}\n", "families.f.ntp"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_file_that_is_not_of_this_form_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "results.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_published(Published(str(tmp_path / "results.yaml"), "f"))


def test_claims_are_optional(tmp_path: Path) -> None:
    (tmp_path / "results.yaml").write_text("source: x\nbenchmarks: [a]\nfamilies: {f: {ntp: [1.5]}}\n")
    assert read_published(Published(str(tmp_path / "results.yaml"), "f")) == ({("a", "ntp"): 1.5}, "x")
