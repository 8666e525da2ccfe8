"""``inspect`` from a command line: the fields of ``fit`` that weights depend on, and overlays to compare."""

import inspect as python
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import SUPPRESS, Namespace
from lightning.pytorch import Trainer

# Imported so that configs find their classes by short names.
import remit_lit.data.datatrove_reader
import remit_lit.data.indexed_tokens
import remit_lit.data.lab_documents  # noqa: F401
from remit_lit.cli.parser import Parser, parse, settings_of, verb_parser
from remit_lit.configs import find_config
from remit_lit.errors import ConfigError
from remit_lit.inspection.inspect import inspect
from remit_lit.inspection.settings import InspectSettings, TrainerFields
from remit_lit.runs.lock import held
from remit_lit.training.datamodule import PackedData
from remit_lit.training.module import MidTrainingModule
from remit_lit.training.optimization import Horizon

# Fields of `fit` that no weight depends on: a config may have them, and they are not read.
_OF_TRAINING = (
    "optimizer",
    "horizon",
    "schedule",
    "no_decay",
    "z_loss",
    "activation_checkpointing",
    "compile",
    "compile_loss",
    "loss_kernel",
    "matmul_precision",
    "optimizer_states",
)
_OF_LOADING = ("num_workers", "validation_batch_size", "repeat_chosen")
_OF_FIT = (
    *("seed_everything", "run_dir", "dry_run", "report", "allow_change", "ckpt_path", "weights_only"),
    *("checkpoint", "progress_lines", "throughput", "watchdog"),
)
# Rows of a micro-batch, where no config says how many: it matters to strategies that weigh more than a row at once.
_BATCH_SIZE = 8


def run_inspect(verb: str, arguments: Sequence[str]) -> None:
    """Write the page, and print where it is."""
    parser = _parser(verb)
    config = parse(parser, arguments)
    settings = settings_of(InspectSettings, config)
    with held("output", settings.output):
        values = parser.instantiate_classes(config)
        if settings.strategies is None:
            module = _module(values)
            strategies = {type(module.weighting).__name__: module}
        else:
            strategies = _overlaid(parser, arguments, config, settings.strategies)
        data = PackedData(**_known(values.data, _OF_LOADING))
        page = inspect(strategies, data, settings, settings_of(TrainerFields, values.trainer))
    print(f"inspect: {page} ({page.stat().st_size / 1e6:.1f} MB)")


def _parser(verb: str) -> Parser:
    parser = verb_parser(verb)
    parser.add_class_arguments(InspectSettings)
    parser.add_class_arguments(MidTrainingModule, "model", skip=set(_OF_TRAINING), instantiate=False)
    parser.add_class_arguments(PackedData, "data", skip=set(_OF_LOADING), instantiate=False)
    parser.add_class_arguments(TrainerFields, "trainer", instantiate=False)
    known = python.signature(TrainerFields).parameters
    others = [name for name in python.signature(Trainer).parameters if name not in known]
    for section, names in (("model.", _OF_TRAINING), ("data.", _OF_LOADING), ("trainer.", others), ("", _OF_FIT)):
        for name in names:
            parser.add_argument(f"--{section}{name}", type=Any, default=None, help=SUPPRESS)
    parser.set_defaults({"data.batch_size": _BATCH_SIZE})
    return parser


def _overlaid(
    parser: Parser, arguments: Sequence[str], config: Namespace, overlays: Sequence[str]
) -> dict[str, MidTrainingModule]:
    """The strategies by the names of their overlays, each laid over the whole command line.

    Raises:
        ConfigError: there is no such overlay, it is named twice, or it is about other rows or another policy.
    """
    found = {}
    for overlay in overlays:
        name = overlay.removesuffix(".yaml")
        if name in found:
            raise ConfigError(f"strategies: {overlay} is named twice; name each overlay once")
        laid = parse(parser, [*arguments, f"--config={find_config('strategies', overlay)}"])
        for section in ("data", "model.policy"):
            if laid[section] != config[section]:
                raise ConfigError(
                    f"strategies: {overlay} changes {section}, but strategies are compared on the same text"
                )
        found[name] = _module(parser.instantiate_classes(laid))
    stems = [Path(name).name for name in found]
    return dict(zip(stems if len(set(stems)) == len(stems) else found, found.values(), strict=True))


def _module(values: Namespace) -> MidTrainingModule:
    """Built as by ``fit``, which checks it; it is never trained."""
    fields = _known(values.model, _OF_TRAINING)
    return MidTrainingModule(optimizer=torch.optim.SGD, horizon=Horizon(steps=1), **fields)


def _known(section: Namespace, unread: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in vars(section).items() if name not in unread}
