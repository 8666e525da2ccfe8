"""A table as files: Markdown, LaTeX and two CSVs."""

from pathlib import Path

from remit_lit.tables.latex import to_latex
from remit_lit.tables.markdown import to_markdown
from remit_lit.tables.summary import Summary
from remit_lit.tables.tidy import cells_csv, seeds_csv


def write_table(summary: Summary, directory: Path) -> list[Path]:
    """Write ``table.md``, ``table.tex``, ``cells.csv`` and ``seeds.csv``; the terminal's is
    :func:`remit_lit.tables.terminal.print_table`, figures are :mod:`remit_lit.tables.figures`.

    Returns:
        The files.
    """
    texts = {
        "table.md": to_markdown(summary),
        "table.tex": to_latex(summary),
        "cells.csv": cells_csv(summary),
        "seeds.csv": seeds_csv(summary),
    }
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in texts.items():
        path = directory / name
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths
