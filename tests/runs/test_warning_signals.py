"""Which signals count as a scheduler's warning to the command."""

import subprocess
import sys

from tests.processes import ROOT

# In a process of its own: a warning that is heard ends the process after a while.
PROGRAM = """
import multiprocessing, time
from remit_lit.runs.warning_signals import WARNINGS

with WARNINGS.heard():
    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    worker.start()
    time.sleep(0.2)
    worker.terminate()
    worker.join(20)
    time.sleep(0.2)
    print(worker.exitcode, WARNINGS.received)
"""


def test_a_data_worker_that_is_ended_is_no_warning_to_its_parent() -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.stdout == "-15 None\n", ended.stderr
