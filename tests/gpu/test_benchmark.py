"""The benchmark on GPUs: its program runs on a CPU, which it refuses to measure."""

import re

import pytest
import torch

from tests.benchmarks import gpu
from tests.benchmarks.gpu_variants import VARIANTS


@pytest.mark.slow
def test_the_program_runs_on_a_cpu(tmp_path):
    needs_gpu = ("compiled", "Liger", "cut cross-entropy")
    names = [name for name in VARIANTS if not any(word in name for word in needs_gpu)]
    given = ["--device", "cpu", "--shape", "tiny", "--repeats", "2", "--output", str(tmp_path), "--only", *names]
    gpu.main(given)
    written, _, profile = (tmp_path / "RESULTS_GPU.md").read_text().partition("## Where the time")
    assert "a CPU, to try this program" in written
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in written.splitlines() if line.startswith("|")]
    assert [row[0] for row in rows[2:]] == names
    for name, rate, repeats, mfu, memory, estimate in rows[2:]:
        slowest, fastest = (int(text.replace(",", "")) for text in repeats.split(" to "))
        assert 0 < slowest <= int(rate.replace(",", "")) <= fastest and mfu == memory == ""
        assert bool(estimate) == (name.endswith("`fit`"))
    assert re.search(r"^\| `aten::\w+` \| \d+ \| \d+\.\d% \|$", profile, re.MULTILINE)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured(tmp_path):
    with pytest.raises(SystemExit, match=r"^error: no NVIDIA GPU here; nothing was measured$"):
        gpu.main(["--output", str(tmp_path)])
    assert not list(tmp_path.iterdir())
