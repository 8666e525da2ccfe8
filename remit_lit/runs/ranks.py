"""Which process of a run this is, also before and after there is a process group."""

from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only


def global_rank() -> int:
    """Rank of this process over all nodes, by the launcher's environment; 0 where there is one process."""
    lightning: Any = rank_zero_only
    return int(getattr(lightning, "rank", None) or 0)
