"""``python -m tests.faults.crash [VERB ...]``: cut the power of each verb at every boundary, and write RESULTS.md."""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from tests.faults.crash.cuts import summary, try_verb
from tests.faults.crash.promises import PROMISES
from tests.faults.crash.results import write_results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.crash", description=__doc__)
    parser.add_argument("verbs", nargs="*", help=f"some of {', '.join(PROMISES)}; all by default")
    parser.add_argument("--every", type=int, default=10, help="run the verb again from one state of so many")
    arguments = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    torch.set_num_threads(1)
    for verb in arguments.verbs or PROMISES:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            found = try_verb(verb, Path(directory).resolve(), arguments.every)
        for model, f in found.items():
            counts = f"{f.operations} operations, {f.cuts} cuts, {len(f.states)} states, {f.resumed} run again"
            print(f"{verb}, {model}: {counts}, {len(f.broken)} broken", *summary(f.broken), sep="\n  ", flush=True)
        print(f"{verb}: {time.monotonic() - began:.0f} s", flush=True)
        write_results(verb, found)


if __name__ == "__main__":
    main()
