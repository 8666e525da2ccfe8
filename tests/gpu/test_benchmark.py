"""The benchmark on GPUs: its program runs on a CPU, which it refuses to measure."""

import pytest
import torch

from tests.benchmarks import gpu


@pytest.mark.slow
def test_the_program_runs_on_a_cpu(tmp_path):
    needs_gpu = ("compiled", "Liger", "cut cross-entropy")
    names = [name for name in gpu.VARIANTS if not any(word in name for word in needs_gpu)]
    gpu.main(["--device", "cpu", "--shape", "tiny", "--output", str(tmp_path), "--only", *names])
    written = (tmp_path / "RESULTS_GPU.md").read_text()
    assert "a CPU, to try this program" in written
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in written.splitlines() if line.startswith("|")]
    assert [row[0] for row in rows[2:]] == names
    for _, rate, mfu, memory in rows[2:]:
        assert int(rate.replace(",", "")) > 0 and mfu == memory == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured(tmp_path):
    with pytest.raises(SystemExit, match=r"^error: no NVIDIA GPU here; nothing was measured$"):
        gpu.main(["--output", str(tmp_path)])
    assert not list(tmp_path.iterdir())
