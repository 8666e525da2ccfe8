"""Every value that a method's or a recipe's YAML takes from the literature, against one table of what was read there.

``literature.csv`` has file, field, value and source. A line of those files whose comment begins with a source (and not
with "ours") must have its row in the table, so that a value can be changed in two places only.
"""

import csv
import functools
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.processes import ROOT

_CITES = re.compile(r"\s#\s(paper|authors|RHO-1's paper|MiniPLM's|OLMo 2|SmolLM3)\b")
_FOLDERS = ("baselines", "experiments", "experiments/ablations", "experiments/posttrain")
_NO_SETTINGS = {"baselines/results.yaml"}
FILES = sorted(
    {path.relative_to(ROOT).as_posix() for folder in _FOLDERS for path in (ROOT / folder).glob("*.yaml")} - _NO_SETTINGS
)
with (ROOT / "tests" / "literature.csv").open(newline="") as _stream:
    TABLE = {(row["file"], row["field"]): row for row in csv.DictReader(_stream)}


def leaves(node: yaml.Node, prefix: str = "") -> Iterator[tuple[str, yaml.Node]]:
    """Dotted names of the values, and where they stand; a list on one line is one value."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from leaves(value, f"{prefix}.{key.value}" if prefix else key.value)
    elif isinstance(node, yaml.SequenceNode) and not node.flow_style:
        for index, value in enumerate(node.value):
            yield from leaves(value, f"{prefix}.{index}")
    else:
        yield prefix, node


@functools.cache
def read(file: str) -> Any:
    """What a YAML file holds."""
    return yaml.safe_load((ROOT / file).read_text())


def look_up(content: Any, field: str) -> Any:
    """The value of a dotted name; a number is a place in a list."""
    for name in field.split("."):
        content = content[int(name)] if isinstance(content, list) else content[name]
    return content


def differences(table: dict[tuple[str, str], dict[str, str]]) -> list[str]:
    """Rows of the table whose value is not the file's, a line each."""
    found = []
    for (file, field), row in table.items():
        value = look_up(read(file), field)
        if as_number(value) != as_number(yaml.safe_load(row["value"])):
            found.append(f"{file}: {field} is {value!r}, but {row['source']} has {row['value']}")
    return found


def as_number(value: Any) -> Any:
    """YAML reads 1e-8 as text."""
    try:
        return value if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return value


def test_values_are_those_of_their_sources() -> None:
    assert differences(TABLE) == []


def test_a_typo_would_be_found() -> None:
    for key, row in TABLE.items():
        value = row["value"]
        wrong = {key: {**row, "value": f"[{value}]" if value.startswith("[") else f"{value}1"}}
        assert len(differences(wrong)) == 1, key


@pytest.mark.parametrize("file", FILES)
def test_every_cited_line_is_in_the_table(file: str) -> None:
    text = (ROOT / file).read_text()
    lines = text.splitlines()
    cited = [field for field, node in leaves(yaml.compose(text)) if _CITES.search(lines[node.start_mark.line])]
    assert [field for field in cited if (file, field) not in TABLE] == []


def test_every_row_names_its_source() -> None:
    assert len(TABLE) > 150
    assert {file for file, _ in TABLE} <= set(FILES)
    assert all(re.search(r"arXiv:\d{4}\.\d{5}|\w+/[\w-]+|secondary reports", row["source"]) for row in TABLE.values())
