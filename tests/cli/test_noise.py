"""What a run prints is about the run."""

import os

from tests.processes import Run, short_run


def test_a_cluster_nearby_is_not_spoken_of(tmp_path, tiny_rows, tiny_policy_dir):
    (tmp_path / "bin").mkdir()
    srun = tmp_path / "bin" / "srun"
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    run = Run(tmp_path / "run", short_run(tiny_rows, tiny_policy_dir, 1))
    process = run.start(PATH=f"{srun.parent}:{os.environ['PATH']}")
    assert process.wait(180) == 0, run.output
    assert "srun" not in run.output
