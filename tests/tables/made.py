"""Tables made of figures that are known, for tests of what is said of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from remit_lit.evaluation.results import Metric
from remit_lit.tables.contents import Contents, Entry, Row


def metric(value: float, items: int = 40, higher_is_better: bool | None = True) -> Metric:
    """A metric of that value, with some spread over items."""
    spread = np.linspace(-0.01, 0.01, items) if items > 1 else np.zeros(1)
    return Metric(value + spread, higher_is_better)


def entry(values: Sequence[float], missing: Mapping[int, str] | None = None, **options: Any) -> Entry:
    """Seeds 0, 1, ... that found these values."""
    return Entry({seed: metric(value, **options) for seed, value in enumerate(values)}, missing or {})


def contents(**changes: Any) -> Contents:
    """Two rows, a baseline and two methods, three seeds; ReMiT is best in GSM8K, the baseline in bits per byte."""
    made = Contents(
        title="Toy & table",
        rows={"gsm8k": Row("GSM8K | accuracy", 100.0, 1), "bpb": Row("bits_per_byte", 1.0, 3)},
        columns={"ntp": "NTP", "rho1": "RHO-1", "remit": "ReMiT [0.2]"},
        baseline="ntp",
        entries={
            ("gsm8k", "ntp"): entry([0.40, 0.42, 0.41]),
            ("gsm8k", "rho1"): entry([0.42, 0.41, 0.43]),
            ("gsm8k", "remit"): entry([0.60, 0.63, 0.62]),
            ("bpb", "ntp"): entry([0.70, 0.71, 0.72], higher_is_better=False),
            ("bpb", "rho1"): entry([0.80, 0.82], {2: "failed: out of memory at step 7"}, higher_is_better=False),
            ("bpb", "remit"): Entry({}, dict.fromkeys(range(3), "not run: needs a GPU")),
        },
        published={("gsm8k", "ntp"): 48.14, ("gsm8k", "remit"): 61.64, ("bpb", "remit"): 0.123},
        published_source="a paper",
        notes=("A note: 100 % toy.",),
    )
    return replace(made, **changes)
