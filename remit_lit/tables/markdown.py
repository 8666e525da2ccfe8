"""A table in GitHub's Markdown: published figures stand in lines of their own."""

from collections.abc import Iterable, Iterator, Sequence

from remit_lit.tables import wording
from remit_lit.tables.summary import Cell, Summary


def to_markdown(summary: Summary) -> str:
    """The figures, how to read them, and the differences from the baseline."""
    contents = summary.contents
    parts = [f"## {_escape(contents.title)}", "\n".join(_figures(summary)), _bullets(wording.legend(summary))]
    lines = wording.differences(summary)
    if lines:
        parts += [
            "\n".join(_differences(wording.difference_header(summary), lines)),
            _bullets(wording.differences_legend(summary)),
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(summary: Summary) -> Iterator[str]:
    contents = summary.contents
    yield from _header(["", *(wording.column_title(summary, column) for column in contents.columns)], left=1)
    for name, row in contents.rows.items():
        cells = [summary.cells[name, column] for column in contents.columns]
        yield _line(
            [_escape(wording.row_title(summary, name)), *(_ours(cell, wording.figure(cell, row)) for cell in cells)]
        )
        published = [wording.published(cell, row) for cell in cells]
        if any(published):
            yield _line([f"*{wording.PUBLISHED}*", *("" if text is None else f"*{text}*" for text in published)])


def _ours(cell: Cell, figure: str) -> str:
    text = f"**{_escape(figure)}**" if cell.bold else _escape(figure)
    return "<br>".join([text, *wording.remarks(cell)])


def _differences(header: Sequence[str], lines: Sequence[wording.DifferenceLine]) -> Iterator[str]:
    yield from _header(["method", *header], left=2)
    for line in lines:
        row, difference, *rest = map(_escape, line.texts)
        yield _line([_escape(line.column), row, f"**{difference}**" if line.significant else difference, *rest])


def _header(titles: Sequence[str], left: int) -> Iterator[str]:
    yield _line(map(_escape, titles))
    yield _line(["---" if index < left else "---:" for index in range(len(titles))])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {_escape(line)}" for line in lines)


def _escape(text: str) -> str:
    for character in "\\|*_`<[":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
