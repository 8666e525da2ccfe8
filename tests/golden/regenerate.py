"""Write the golden loss curves anew: ``python -m tests.golden.regenerate [names]``, from the root of the repository.

To be run after a change that is meant to change losses; the difference of the files is then part of the change.
"""

import json
import sys
import tempfile
from pathlib import Path

from tests.golden.curves import STRATEGIES, curve, golden_path, make_inputs


def main(names: list[str]) -> None:
    """Write the curves of ``names``; of all strategies if there are none."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        rows, policy, reference = make_inputs(root)
        for name in names or STRATEGIES:
            golden_path(name).write_text(json.dumps(curve(name, rows, policy, reference, root / "run")) + "\n")
            print(golden_path(name))


if __name__ == "__main__":
    main(sys.argv[1:])
