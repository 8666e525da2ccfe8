"""Beginning with the optimizer states of another run, at step 0 of a schedule of one's own."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor, nn
from torch.optim import Optimizer

from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec
from remit_lit.runs.checkpoint_io import TRAINER, read_trainer
from remit_lit.runs.resume import find_checkpoint
from remit_lit.runs.weights import POLICY_PREFIX, WEIGHTS, read_weights
from remit_lit.training.engines import engine_of
from remit_lit.training.optimization import NoDecay, OptimizerCallable, parameter_groups

FIELD = "model.optimizer_states"
_EXAMPLE = "runs/NAME/checkpoints/last.ckpt"


class OptimizerStates:
    """Those of a checkpoint: AdamW's moments, and its count of steps, which corrects their bias.

    Learning rate, weight decay and all other settings are this run's, and so are its schedule and its step 0.

    Args:
        checkpoint: a directory in ``checkpoints/`` of a run of one process or DDP, or the link last.ckpt.
    """

    def __init__(self, checkpoint: str) -> None:
        self.path = Path(checkpoint)

    def check(
        self, policy: ModelSpec, optimizer: OptimizerCallable, no_decay: Sequence[NoDecay], strategy: Strategy
    ) -> None:
        """Refuse a checkpoint whose states are not of these parameters and this optimizer; no tensor is read.

        Args:
            policy: the model in training.
            optimizer: makes the run's optimizer.
            no_decay: how its parameters are grouped.
            strategy: the engine.

        Raises:
            ConfigError: naming what differs.
            DataError: the checkpoint is damaged.
        """
        if engine_of(strategy) != "torch":
            raise ConfigError(f"{FIELD}: got {self.path} with ZeRO, which shards its states; give one device, or ddp")
        if not self.path.exists():
            raise ConfigError(f"{FIELD}: {self.path} does not exist; give a checkpoint, e.g. {_EXAMPLE}")
        if not (self.path / TRAINER).is_file():
            raise ConfigError(
                f"{FIELD}: {self.path} has no optimizer states; give a checkpoint of a run of one process or ddp, e.g. "
                f"{_EXAMPLE}"
            )
        find_checkpoint(str(self.path), "", FIELD)
        states = self._read("meta")
        with torch.device("meta"):
            groups = parameter_groups(policy.build_empty("model.policy"), no_decay)
        parameters = [parameter for group in groups for parameter in group["params"]]
        if not states["state"]:
            raise ConfigError(f"{FIELD}: {self.path} has no optimizer states: its optimizer kept none")
        self._check_kinds(states["state"], parameters, optimizer)
        found, own = ([len(group["params"]) for group in each] for each in (states["param_groups"], groups))
        if sum(found) != len(parameters):
            raise self._other_model(f"states of {sum(found)} parameters, and it has {len(parameters)}")
        if found != own:
            raise ConfigError(
                f"{FIELD}: {self.path} is of a run whose groups have {found} parameters, and this one's have {own}; "
                "give model.no_decay as it was there"
            )
        for place, parameter in enumerate(parameters):
            for name, value in states["state"].get(place, {}).items():
                if value.dim() and value.dim() == parameter.dim() and value.shape != parameter.shape:
                    shapes = f"{list(value.shape)}, and it is {list(parameter.shape)}"
                    raise self._other_model(f"{name} of parameter {place} is {shapes}")

    def load(self, policy: nn.Module, optimizer: Optimizer) -> None:
        """Put the states into a new optimizer of the policy.

        Raises:
            ConfigError: the policy's weights are not those of the checkpoint.
        """
        weights = read_weights(self.path / WEIGHTS)
        for name, parameter in policy.named_parameters():
            stored = weights[f"{POLICY_PREFIX}{name}"].to(parameter.dtype)
            if not torch.equal(stored, parameter.detach().cpu()):
                raise ConfigError(
                    f"{FIELD}: {self.path} has other weights than model.policy ({name} differs); give the model that "
                    "`python -m remit_lit export` makes of this checkpoint as model.policy.path"
                )
        settings = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": self._read("cpu")["state"], "param_groups": settings})

    def _read(self, device: str) -> dict[str, Any]:
        states = read_trainer(self.path, device).get("optimizer_states") or [{"state": {}, "param_groups": []}]
        return dict(states[0])

    def _check_kinds(
        self, states: dict[int, dict[str, Tensor]], parameters: Sequence[Tensor], optimizer: OptimizerCallable
    ) -> None:
        kept = cache(lambda dimensions: _kept(optimizer, dimensions))
        for place, parameter in enumerate(parameters):
            if place in states and set(states[place]) != kept(parameter.dim()):
                theirs, ours = (", ".join(sorted(names)) or "none" for names in (states[place], kept(parameter.dim())))
                raise ConfigError(
                    f"{FIELD}: {self.path} is of another optimizer than model.optimizer: of a parameter it keeps "
                    f"{theirs}, and this one {ours}; give the optimizer of that run"
                )

    def _other_model(self, how: str) -> ConfigError:
        return ConfigError(
            f"{FIELD}: {self.path} is of another architecture than model.policy ({how}); give a checkpoint of that "
            "model"
        )


def _kept(optimizer: OptimizerCallable, dimensions: int) -> set[str]:
    """Names of what an optimizer keeps of a parameter of so many dimensions once it has made a step."""
    parameter = nn.Parameter(torch.zeros([2] * dimensions))
    parameter.grad = torch.zeros_like(parameter)
    built = optimizer([parameter])
    built.step()
    return set(built.state[parameter])
