"""Which model came from which data, reference and config."""

from collections.abc import Iterable
from typing import Any

from remit_lit.cells.cell import Cell, all_cells


def lineage(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Each cell with its key, what decided it, and the keys of the cells that it needed, inputs first."""
    return [
        {
            "name": cell.name,
            "key": cell.key,
            "state": cell.state,
            "seconds": cell.outcome.get("seconds") if cell.state in ("done", "failed") else None,
            "result": str(cell.result),
            "command": cell.command,
            "inputs": {name: needed.key for name, needed in cell.inputs.items()},
            "recipe": cell.recipe,
        }
        for cell in all_cells(cells)
    ]
