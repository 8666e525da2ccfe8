"""A table in LaTeX, a fragment that needs ``booktabs`` alone: published figures stand in lines of their own."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from remit_lit.tables import wording
from remit_lit.tables.summary import Cell, Summary

# Brackets are wrapped, since one that begins a line would be read as the argument of the line break before it.
_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",
    "]": "{]}",
    "<": "$<$",
    ">": "$>$",
    "±": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}


def to_latex(summary: Summary) -> str:
    """The figures and the differences from the baseline, each a ``table`` with its caption and how to read it."""
    contents = summary.contents
    title = _escape(contents.title)
    parts = [
        r"% needs \usepackage{booktabs}",
        *_float("l" + "r" * len(contents.columns), title, _figures(summary), wording.legend(summary)),
    ]
    lines = wording.differences(summary)
    if lines:
        header = wording.difference_header(summary)
        caption = f"{title}: differences from the baseline"
        parts += [
            "",
            *_float(
                "l" + "r" * (len(header) - 1),
                caption,
                _differences(header, lines),
                wording.differences_legend(summary),
            ),
        ]
    return "\n".join(parts) + "\n"


def _float(columns: str, caption: str, lines: Iterable[str], legend: Sequence[str]) -> Iterator[str]:
    yield from (r"\begin{table}", r"\centering", rf"\caption{{{caption}}}", rf"\begin{{tabular}}{{{columns}}}")
    yield r"\toprule"
    yield from lines
    yield from (r"\bottomrule", r"\end{tabular}", "")
    yield from (rf"{{\footnotesize {_escape(line)}\par}}" for line in legend)
    yield r"\end{table}"


def _figures(summary: Summary) -> Iterator[str]:
    contents = summary.contents
    yield _line(["", *(_escape(wording.column_title(summary, column)) for column in contents.columns)])
    yield r"\midrule"
    for name, row in contents.rows.items():
        cells = [summary.cells[name, column] for column in contents.columns]
        yield _line(
            [_escape(wording.row_title(summary, name)), *(_ours(cell, wording.figure(cell, row)) for cell in cells)]
        )
        published = [wording.published(cell, row) for cell in cells]
        if any(published):
            texts = ("" if text is None else rf"\textit{{{_escape(text)}}}" for text in published)
            yield _line([rf"\quad \textit{{{wording.PUBLISHED}}}", *texts])


def _ours(cell: Cell, figure: str) -> str:
    text = _escape(figure)
    remarks = "; ".join(wording.remarks(cell))
    return (rf"\textbf{{{text}}}" if cell.bold else text) + (f" ({_escape(remarks)})" if remarks else "")


def _differences(header: Sequence[str], lines: Sequence[wording.DifferenceLine]) -> Iterator[str]:
    yield _line(["", *map(_escape, header[1:])])
    for column, group in groupby(lines, key=lambda line: line.column):
        yield r"\midrule"
        yield rf"\multicolumn{{{len(header)}}}{{l}}{{\textit{{{_escape(column)}}}}} \\"
        for line in group:
            row, difference, *rest = map(_escape, line.texts)
            yield _line([row, rf"\textbf{{{difference}}}" if line.significant else difference, *rest])


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _escape(text: str) -> str:
    escaped = "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", escaped.replace("--", "-{}-"))
