"""How the memory of a step is spread over GPUs: DDP, and DeepSpeed's ZeRO with the defaults that Lightning gives it."""

from dataclasses import dataclass

from remit_lit.estimate.step import COMPUTED, GRADIENTS, INITIAL, REFERENCE, STATES, UPDATE, WEIGHTS, StepMemory

MASTERS, BUCKETS, GATHERED = "master weights", "buckets", "gathered weights"
# In the order of the table.
PARTS = (WEIGHTS, GATHERED, GRADIENTS, STATES, MASTERS, BUCKETS, REFERENCE, INITIAL, *COMPUTED, UPDATE)
# Elements; Lightning's DeepSpeedStrategy and DeepSpeed's stage3_max_live_parameters.
_BUCKET, _LIVE = 200_000_000, 1_000_000_000
_FLOAT32 = 4


@dataclass(frozen=True)
class Layout:
    """What processes share.

    Attributes:
        name: in tables.
        stage: of ZeRO: 1 shares optimizer states, 2 gradients too, 3 weights too. 0 is DDP, on one GPU one process.
        offload: optimizer states, master weights and gradients are in the host's memory.
    """

    name: str
    stage: int
    offload: bool = False


LAYOUTS = (
    Layout("DDP", 0),
    Layout("ZeRO-1", 1),
    Layout("ZeRO-2", 2),
    Layout("ZeRO-3", 3),
    Layout("ZeRO-3, offload", 3, offload=True),
)


@dataclass(frozen=True)
class Memory:
    """Bytes of one of several processes.

    Attributes:
        gpu: of the GPU at the peak, by part.
        host: of the host for this GPU: what is offloaded.
        choosing: of the GPU while rows are chosen before training; 0 where none are.
    """

    gpu: dict[str, float]
    host: float
    choosing: float

    @property
    def total(self) -> float:
        """The highest that the GPU's memory comes to."""
        return max(sum(self.gpu.values()), self.choosing)


def spread(layout: Layout, gpus: int, step: StepMemory, trained: int) -> Memory:
    """Memory of each of ``gpus`` processes.

    DDP adds buckets as large as all gradients. ZeRO partitions evenly; whatever the type of the weights, it keeps
    float32 master weights, states and gradients, and a flat copy of those while the optimizer steps. Stages 1 and 2
    reduce gradients through two buckets and stage 3 through one, of 2e8 elements, with a float32 copy of one where the
    weights are half-precision; stage 3 keeps up to 1e9 gathered weights. Frozen models are whole in each process.

    Args:
        layout: what is shared.
        gpus: processes.
        step: of one process; for ZeRO with the weights in the type that it computes in.
        trained: parameters that are trained.
    """
    if layout.stage == 0:
        return Memory({**step.peak, BUCKETS: step.resident[GRADIENTS] if gpus > 1 else 0}, 0, step.choosing)
    itemsize = step.resident[GRADIENTS] / trained
    in_float32 = _FLOAT32 / itemsize / gpus  # a share of what the simulated optimizer held in the weights' type
    weights = step.resident[WEIGHTS] / (gpus if layout.stage == 3 else 1)
    gathered = itemsize * min(trained, _LIVE) if layout.stage == 3 else 0
    frozen = {part: step.resident[part] for part in (REFERENCE, INITIAL)}
    shared = {
        GRADIENTS: trained * _FLOAT32 / (gpus if layout.stage >= 2 else 1),
        STATES: step.resident[STATES] * in_float32,
        MASTERS: trained * _FLOAT32 / gpus,
    }
    update = trained * _FLOAT32 / gpus + step.update[UPDATE] * in_float32
    host = sum(shared.values()) + update if layout.offload else 0.0
    if layout.offload:
        shared, update = {}, 0.0
    phases: tuple[dict[str, float], ...] = ({**step.computed}, {**step.update, UPDATE: update})
    at_peak = max(phases, key=lambda parts: sum(parts.values()))
    buckets = _BUCKET * (itemsize * (1 if layout.stage == 3 else 2) + (_FLOAT32 if itemsize < _FLOAT32 else 0))
    gpu = {WEIGHTS: weights, GATHERED: gathered, **shared, BUCKETS: buckets, **frozen, **at_peak}
    return Memory(gpu, host, step.choosing - step.resident[WEIGHTS] + weights + gathered if step.choosing else 0)
