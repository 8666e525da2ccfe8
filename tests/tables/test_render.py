"""Each format, read back."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from remit_lit.evaluation.design import power, runs_needed
from remit_lit.tables.contents import Entry, Row
from remit_lit.tables.latex import to_latex
from remit_lit.tables.markdown import to_markdown
from remit_lit.tables.settings import Primary
from remit_lit.tables.summary import Summary, summarize
from remit_lit.tables.table import write_table
from remit_lit.tables.terminal import print_table
from remit_lit.tables.tidy import cells_csv, seeds_csv
from tests.tables.made import contents, entry


@pytest.fixture(scope="module")
def summary() -> Summary:
    return summarize(contents(), resamples=200)


def printed(summary: Summary, width: int = 120, *, color: bool = False) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=color, color_system="standard" if color else None)
    print_table(summary, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return str(text)


def markdown_tables(text: str) -> list[list[list[str]]]:
    """Cells of each table, with what Markdown escapes unescaped."""
    tables = []
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        if lines:
            split = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
            tables.append([[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in line] for line in split])
    return tables


def test_markdown_has_every_figure_in_its_cell(summary: Summary):
    figures, differences = markdown_tables(to_markdown(summary))
    assert figures[0] == ["", "NTP (baseline)", "RHO-1", "ReMiT [0.2]"]
    assert figures[1] == ["---", "---:", "---:", "---:"]
    assert figures[2] == ["GSM8K | accuracy ↑", "41.0 [38.5, 43.5]", "42.0 [39.5, 44.5]", "**61.7 [57.8, 65.4]**"]
    assert figures[3] == ["*published*", "*48.14*", "", "*61.64*"]
    below, above = "0.710 [0.686, 0.735]", "0.810 [0.692, 0.948]<br>2 of 3 seeds"
    assert figures[4] == ["bits_per_byte ↓", below, above, "not run"]
    assert figures[5] == ["*published*", "", "", "*0.123*"]
    assert len(figures) == 6
    found = summary.cells["gsm8k", "remit"].difference
    assert found is not None and found.over_seeds is not None and found.over_items is not None
    [line] = [line for line in differences if line[:2] == ["ReMiT [0.2]", "GSM8K | accuracy ↑"]]
    assert line[2:6] == [
        "**+20.7**",
        f"[{found.over_seeds.low:+.1f}, {found.over_seeds.high:+.1f}]",
        f"[{found.over_items.low:+.1f}, {found.over_items.high:+.1f}]",
        "3",
    ]
    assert {len(row) for row in figures} == {4} and {len(row) for row in differences} == {8}


def test_markdown_says_how_to_read_it(summary: Summary):
    text = re.sub(r"\\(.)", r"\1", to_markdown(summary))
    assert "- bits_per_byte, RHO-1 (seed 2): failed: out of memory at step 7" in text
    assert "- bits_per_byte, ReMiT [0.2] (seeds 0, 1, 2): not run: needs a GPU" in text
    assert "- Published: figures from a paper, not ours" in text
    assert "- A note: 100 % toy." in text
    assert "mean over seeds [95 % t interval]" in text
    assert "items only" not in text


def test_the_cells_csv_has_every_number(summary: Summary):
    lines = {(line["row"], line["column"]): line for line in csv.DictReader(io.StringIO(cells_csv(summary)))}
    assert set(lines) == set(summary.cells)
    cell = summary.cells["gsm8k", "remit"]
    line = lines["gsm8k", "remit"]
    assert cell.interval and cell.difference and cell.difference.over_seeds and cell.difference.over_items
    expected = {
        "mean": cell.mean,
        "low": cell.interval.low,
        "high": cell.interval.high,
        "n_seeds": 3,
        "n_seeds_planned": 3,
        "n_items": 40,
        "diff": cell.difference.mean,
        "diff_low": cell.difference.over_seeds.low,
        "diff_high": cell.difference.over_seeds.high,
        "diff_items_low": cell.difference.over_items.low,
        "diff_items_high": cell.difference.over_items.high,
        "diff_n_seeds": 3,
        "p": cell.difference.p_value,
        "p_holm": cell.difference.p_holm,
        "published": 61.64,
    }
    assert {name: float(line[name]) for name in expected} == expected
    assert (line["interval_over"], line["p_over"], line["bold"], line["missing"]) == ("seeds", "seeds", "True", "")
    absent = lines["bpb", "remit"]
    assert all(absent[name] == "" for name in expected if name not in ("n_seeds", "n_seeds_planned", "published"))
    assert "seed 1: not run: needs a GPU" in absent["missing"]
    assert lines["gsm8k", "ntp"]["diff"] == lines["gsm8k", "ntp"]["p"] == ""


def test_the_seeds_csv_has_every_seed(summary: Summary):
    lines = list(csv.DictReader(io.StringIO(seeds_csv(summary))))
    assert len(lines) == 2 * 3 * 3
    found = {(line["row"], line["column"], int(line["seed"])): line for line in lines}
    assert float(found["gsm8k", "ntp", 1]["value"]) == pytest.approx(42)
    assert found["bpb", "rho1", 2]["value"] == ""
    assert found["bpb", "rho1", 2]["missing"] == "failed: out of memory at step 7"


def test_latex_has_as_many_cells_in_each_line_as_columns(summary: Summary):
    text = to_latex(summary)
    tables = re.findall(
        r"\\begin\{tabular\}\{(l?r*)\}\n\\toprule\n(.*?)\\bottomrule\n\\end\{tabular\}", text, re.DOTALL
    )
    assert [columns for columns, _ in tables] == ["lrrr", "lrrrrrr"]
    for columns, body in tables:
        lines = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert {len(re.split(r"(?<!\\)&", line)) for line in lines} == {len(columns)}
    figures = [line for line in tables[0][1].splitlines() if line.endswith(r"\\")]
    assert len(figures) == 1 + 2 + 2  # the header, two rows, published figures below each
    assert r"\textbf{61.7 {[}57.8, 65.4{]}}" in figures[1]
    assert figures[2] == r"\quad \textit{published} & \textit{48.14} &  & \textit{61.64} \\"
    for kind in ("table", "tabular"):
        assert text.count(rf"\begin{{{kind}}}") == text.count(rf"\end{{{kind}}}") == 2


def test_latex_leaves_nothing_special_unescaped(summary: Summary):
    text = "\n".join(line for line in to_latex(summary).splitlines() if not line.startswith("%"))
    assert r"Toy \& table" in text and r"bits\_per\_byte" in text and r"100 \% toy" in text
    assert not re.search(r"(?<!\\)[%#_]", text)
    assert not re.search(r"\\\\\s*\[", text)  # a bracket here would be the line break's argument
    assert text.count("{") == text.count("}")
    assert all(len(re.findall(r"(?<!\\)\$", line)) % 2 == 0 for line in text.splitlines())
    awkward = contents(title="50% of #1 {a} ~b ^c \\d $e_f -- g")
    caption = re.search(r"\\caption\{(.*)\}", to_latex(summarize(awkward, resamples=50)))
    assert caption is not None
    assert caption[1] == (r"50\% of \#1 \{a\} \textasciitilde{}b \textasciicircum{}c \textbackslash{}d \$e\_f -{}- g")


def test_the_terminal_shows_ours_above_and_the_published_figure_below(summary: Summary):
    lines = printed(summary).splitlines()
    [at] = [number for number, line in enumerate(lines) if "GSM8K | accuracy" in line and "41.0 [" in line]
    assert re.search(r"41\.0 \[38\.5, 43\.5\] +42\.0 \[39\.5, 44\.5\] +\* 61\.7 \[57\.8, 65\.4\]", lines[at])
    assert re.fullmatch(r" +published 48\.14 +published 61\.64 *", lines[at + 1])
    text = " ".join(" ".join(lines).split())
    assert "Published: figures from a paper, not ours" in text
    assert "2 of 3 seeds" in text and "not run" in text
    assert "failed: out of memory at step 7" in text


def test_the_terminal_gives_published_figures_a_style_of_their_own(summary: Summary):
    text = printed(summary, color=True)
    styles = {
        figure: re.findall(rf"\x1b\[([\d;]+)m[^\x1b]*{figure}", text) for figure in ("published 61.64", r"61.7 \[")
    }
    assert all(styles.values()) and not set(styles["published 61.64"]) & set(styles[r"61.7 \["])


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_wide_table_stays_within_the_terminal(width: int):
    columns = {f"m{number}": f"method {number}" for number in range(12)}
    rows = {"gsm8k": Row("GSM8K, accuracy", 100.0, 2)}
    entries = {("gsm8k", name): entry([0.4 + 0.01 * place, 0.453]) for place, name in enumerate(columns)}
    wide = contents(rows=rows, columns=columns, baseline=None, entries=entries, published={}, notes=())
    text = printed(summarize(wide, resamples=50), width)
    assert max(map(len, text.splitlines())) <= width
    figures = re.findall(r"\d\d\.\d\d \[\d+\.\d\d, \d+\.\d\d\]", text)
    assert len(figures) == 12  # each whole, on one line
    assert text.count("GSM8K, accuracy") > 1
    for title in columns.values():
        assert re.search(rf"{title}(?!\d)", text)


def test_published_figures_stand_in_no_cell_of_ours(summary: Summary):
    outlandish = replace(summary.contents, published=dict.fromkeys(summary.cells, 77777.25))
    marked = summarize(outlandish, resamples=200)
    figures, _ = markdown_tables(to_markdown(marked))
    holding = [line for line in figures if any("77,777.25" in cell for cell in line)]
    assert len(holding) == 2 and all(line[0] == "*published*" for line in holding)
    for line in csv.DictReader(io.StringIO(cells_csv(marked))):
        assert [name for name, value in line.items() if value == "77777.25"] == ["published"]
    assert "77777" not in seeds_csv(marked)
    latex = [line for line in to_latex(marked).splitlines() if "77,777.25" in line]
    assert len(latex) == 2 and all(line.startswith(r"\quad \textit{published}") for line in latex)
    terminal = printed(marked)
    assert terminal.count("77,777.25") == terminal.count("published 77,777.25") == 6


def test_the_primary_comparison_is_told_apart_and_the_power_that_is_there_is_said():
    primary = Primary("gsm8k", "rho1", "ntp", smallest_effect=1.0, sd=2.0)
    said = to_markdown(summarize(contents(primary=primary), resamples=50))
    _, differences = markdown_tables(said)
    last = {(line[0], line[1]): line[-1] for line in differences[2:]}
    assert last["RHO-1", "GSM8K | accuracy ↑"] == "primary"
    assert "primary" not in [text for place, text in last.items() if place[0] != "RHO-1"]
    line = f"{runs_needed(1.0, 2.0)} are needed at a standard deviation of 2 over seeds (given); 3 have a power of "
    assert line + f"{100 * power(1.0, 2.0, 3):.0f} %." in said
    own = to_markdown(summarize(contents(primary=replace(primary, sd=None)), resamples=50))
    differences_of_seeds = np.array([42, 41, 43]) - np.array([40, 42, 41])
    assert f"standard deviation of {differences_of_seeds.std(ddof=1):.3g} over seeds (of these runs)" in own
    for enough in (replace(primary, sd=0.1), replace(primary, smallest_effect=None)):
        assert "are needed" not in to_markdown(summarize(contents(primary=enough), resamples=50))
    lines = list(csv.DictReader(io.StringIO(cells_csv(summarize(contents(primary=primary), resamples=50)))))
    found = {(line["row"], line["column"]): line["comparison"] for line in lines}
    assert (found["gsm8k", "rho1"], found["gsm8k", "remit"], found["gsm8k", "ntp"]) == ("primary", "secondary", "")


def test_a_bound_is_shown_as_one():
    row = Row("speed-up", compared=False, log=True)
    whole = entry([1.5, 2.0, 3.0], items=1, higher_is_better=None)
    part = replace(whole, censored={2: "never reaches 0.7"}, bound="at most")
    entries = {("row", "ntp"): whole, ("row", "rho1"): part, ("row", "remit"): replace(part, bound="at least")}
    summary = summarize(contents(rows={"row": row}, entries=entries, published={}), resamples=50)
    figures = markdown_tables(to_markdown(summary))[0][2]
    assert figures[2:] == ["≤ 2.08<br>1 of 3 never reach it", "≥ 2.08<br>1 of 3 never reach it"]
    assert "count with the bound that their last evaluation gives" in to_markdown(summary)
    lines = list(csv.DictReader(io.StringIO(seeds_csv(summary))))
    assert [line["censored"] for line in lines if line["column"] == "rho1"] == ["", "", "never reaches 0.7"]
    assert r"$\leq$ 2.08" in to_latex(summary)


def test_one_seed_says_items_only_and_shows_no_half_width():
    entries = {place: entry([0.5]) for place in contents().entries}
    single = summarize(contents(entries=entries, published={}), resamples=200)
    figures, differences = markdown_tables(to_markdown(single))
    assert all(re.fullmatch(r"\S+ \[\S+, \S+\]<br>items only", cell) for line in figures[2:] for cell in line[1:])
    assert all(line[3] == "" and line[4] for line in differences[2:])
    assert "it says nothing about other seeds" in to_markdown(single)


def test_a_row_that_nobody_ran_says_so_once():
    entries = {place: Entry({}, {0: "not run: no sandbox"}) for place in contents().entries}
    text = to_markdown(summarize(contents(entries=entries), resamples=50))
    assert text.count("not run: no sandbox") == 2
    assert "GSM8K \\| accuracy, all: not run: no sandbox" in text


def test_a_reason_that_the_cell_has_said_is_not_said_again():
    entries = {**contents().entries, ("bpb", "remit"): Entry({}, dict.fromkeys(range(3), "not trained"))}
    text = printed(summarize(contents(entries=entries), resamples=100))
    assert text.count("not trained") == 1
    assert "RHO-1 (seed 2): failed: out of memory at step 7" in text


def test_titles_are_text_and_no_markup():
    columns = {"ntp": "[bold]NTP", "rho1": "RHO-1", "remit": "**R|e**"}
    odd = summarize(contents(columns=columns), resamples=50)
    assert "[bold]NTP" in printed(odd)
    assert markdown_tables(to_markdown(odd))[0][0][1:] == ["[bold]NTP (baseline)", "RHO-1", "**R|e**"]


def test_files_are_written(summary: Summary, tmp_path: Path):
    paths = write_table(summary, tmp_path / "new" / "table")
    assert [path.name for path in paths] == ["table.md", "table.tex", "cells.csv", "seeds.csv"]
    assert paths[0].read_text(encoding="utf-8") == to_markdown(summary)
