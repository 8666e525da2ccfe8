"""A table on the terminal: ours above, the published figure below in another style, in blocks that fit the width."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from remit_lit.tables import wording
from remit_lit.tables.contents import Row
from remit_lit.tables.summary import Cell, Summary

_TITLE_WIDTH = 28
_COLUMN_WIDTH = 26
_PUBLISHED_STYLE = "italic cyan"


def print_table(summary: Summary, console: Console) -> None:
    """Print the figures, how to read them, and the differences from the baseline."""
    console.print()
    console.print(Text(summary.contents.title, style="bold"))
    for columns in _blocks(summary, console):
        console.print(_figures(summary, columns))
    _print_lines(wording.legend(summary, mark="* and bold"), console)
    lines = wording.differences(summary)
    if lines:
        console.print()
        console.print(_differences(wording.difference_header(summary), lines))
        _print_lines(wording.differences_legend(summary), console)


def _print_lines(lines: Sequence[str], console: Console) -> None:
    for line in lines:
        console.print(Text(line))


def _blocks(summary: Summary, console: Console) -> Iterator[list[str]]:
    """As many columns at a time as fit."""
    unbounded = console.options.update(width=10_000)
    block: list[str] = []
    for column in summary.contents.columns:
        width = Measurement.get(console, unbounded, _figures(summary, [*block, column])).maximum
        if block and width > console.width:
            yield block
            block = []
        block.append(column)
    if block:
        yield block


def _figures(summary: Summary, columns: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, leading=1)
    table.add_column(max_width=_TITLE_WIDTH)
    for column in columns:
        table.add_column(Text(wording.column_title(summary, column)), justify="right", max_width=_COLUMN_WIDTH)
    for row in summary.contents.rows:
        cells = (_cell(summary.cells[row, column], summary.contents.rows[row]) for column in columns)
        table.add_row(Text(wording.row_title(summary, row)), *cells)
    return table


def _cell(cell: Cell, row: Row) -> Text:
    style = "bold" if cell.bold else "dim" if cell.mean is None else ""
    lines = [Text(("* " if cell.bold else "") + wording.figure(cell, row), style)]
    lines += [Text(remark, "dim") for remark in wording.remarks(cell)]
    published = wording.published(cell, row)
    if published is not None:
        lines.append(Text(f"{wording.PUBLISHED} {published}", _PUBLISHED_STYLE))
    return Text("\n").join(lines)


def _differences(header: Sequence[str], lines: Sequence[wording.DifferenceLine]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(max_width=_TITLE_WIDTH)
    for title in header[1:]:
        table.add_column(title, justify="right")
    for column, group in groupby(lines, key=lambda line: line.column):
        table.add_row(Text(column, "italic"))
        for line in group:
            table.add_row(*(Text(text, "bold" if line.significant else "") for text in line.texts))
        table.add_section()
    return table
