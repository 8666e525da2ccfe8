"""What the trainer's fields of a config mean, where there is no trainer to ask."""

from remit_lit.errors import ConfigError
from remit_lit.training.engines import check_precision

_KNOWN = ("32-true", "bf16-mixed", "bf16-true")
_OTHER_NAMES = {"None": "32-true", "32": "32-true", "bf16": "bf16-mixed"}


def num_devices(devices: int | str | list[int]) -> int:
    """GPUs of a node that ``trainer.devices`` names; one where it leaves that to the machine (auto, -1)."""
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, str) and "," in devices:
        return len([part for part in devices.split(",") if part.strip()])
    return max(1, int(devices)) if str(devices).lstrip("-").isdigit() else 1


def planned_precision(given: object) -> str:
    """``trainer.precision`` by one name: "32-true", "bf16-mixed" or "bf16-true".

    Raises:
        ConfigError: another one, or one that ``fit`` refuses.
    """
    check_precision(given)
    precision = _OTHER_NAMES.get(str(given), str(given))
    if precision not in _KNOWN:
        raise ConfigError(f"trainer.precision: got {given}; give 32-true, bf16-mixed or bf16-true")
    return precision
