"""What machines do in a second, and how much the stages after mid-training are given: inputs of the hours."""

from dataclasses import dataclass, field, fields
from typing import Any

from remit_lit.errors import require_at_least

_RESULTS = "measured: tests/benchmarks/RESULTS.md"


def _sourced(default: float, source: str) -> Any:
    return field(default=default, metadata={"source": source})


@dataclass
class Rates:
    """Rates and amounts; the report says where each default is from.

    Attributes:
        tokenized: tokens that a core turns into rows in a second.
        prepare_cores: cores of the node that prepares.
        loaded: tokens that a GPU's data workers load in a second.
        disk: bytes a second that the shared file system reads or writes, for all nodes together.
        nvlink: bytes a second between the GPUs of a node, in one direction.
        network: bytes a second of a GPU to other nodes, in one direction.
        gpu_bandwidth: bytes a second of a GPU's memory.
        sampling_share: of that, what sampling reaches.
        sampled_at_once: answers that are sampled together.
        posttrain_tokens: tokens that SFT and DPO train on.
        sampled_tokens: tokens that RLVR samples.
        evaluated_tokens: tokens of prompts that an evaluation reads.
        answered_tokens: tokens that it samples.
        gpu_hours_between_failures: of all causes, for one GPU; of N GPUs a N-th.
        restart_seconds: from a failure until training goes on.
    """

    tokenized: float = _sourced(648_513 / 2, f"{_RESULTS}, prepare in 2 processes")
    prepare_cores: int = _sourced(32, "assumed; num_workers of experiments/olmo2_1b.yaml")
    loaded: float = _sourced(337_051, f"{_RESULTS}, 2 workers")
    disk: float = _sourced(5e9, "assumed")
    nvlink: float = _sourced(450e9, "NVIDIA H100 SXM datasheet: 900 GB/s in both directions")
    network: float = _sourced(50e9, "NVIDIA DGX H100 user guide: 400 Gb/s for each GPU")
    gpu_bandwidth: float = _sourced(3.35e12, "NVIDIA H100 SXM datasheet")
    sampling_share: float = _sourced(0.3, "assumed")
    sampled_at_once: int = _sourced(64, "assumed")
    posttrain_tokens: float = _sourced(1e9, "assumed")
    sampled_tokens: float = _sourced(2e8, "assumed")
    evaluated_tokens: float = _sourced(5e7, "assumed")
    answered_tokens: float = _sourced(5e6, "assumed")
    gpu_hours_between_failures: float = _sourced(
        16_384 * 54 * 24 / 419, "Llama 3, arXiv:2407.21783, section 3.3.4: 419 in 54 days of 16,384 GPUs"
    )
    restart_seconds: float = _sourced(600, "assumed")

    def check(self) -> None:
        """Raise ConfigError where a rate is not above 0."""
        for part in fields(self):
            require_at_least(f"rates.{part.name}", getattr(self, part.name), 1e-9)

    def sources(self) -> list[tuple[str, float, str]]:
        """Name, value and source of each."""
        given = "given on the command line or in a config"
        return [
            (part.name, value, part.metadata["source"] if value == part.default else given)
            for part in fields(self)
            for value in [getattr(self, part.name)]
        ]
