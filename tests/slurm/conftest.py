"""A SLURM of one node, which ``one_node.sh`` has started; without it these tests are skipped."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SKIPPED = "no slurmctld of tests/slurm/one_node.sh runs here; `make test-slurm` starts one"


@pytest.fixture(scope="session")
def slurm() -> Path:
    """The directory of its configuration, logs and pids. Never a cluster that others work on."""
    conf = Path(os.environ.get("SLURM_CONF", "none"))
    if shutil.which("scontrol") is None or not conf.is_file() or "ClusterName=one_node\n" not in conf.read_text():
        pytest.skip(SKIPPED)
    if subprocess.run(["scontrol", "ping"], capture_output=True, check=False).returncode:
        pytest.skip(SKIPPED)
    return conf.parent
