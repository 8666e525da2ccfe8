"""The strategy that README.md and its guide write down is one."""

import re
from typing import Any

import pytest

from remit_lit.weighting.testing import check_strategy
from tests.processes import ROOT


@pytest.mark.parametrize("page", ["README.md", "docs/guides/strategies.md"])
def test_the_strategy_keeps_the_contract(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    (code,) = (block for block in blocks if "class Focal" in block)
    names: dict[str, Any] = {}
    exec(code, names)
    check_strategy(names["Focal"](gamma=1.5), examples=30)
