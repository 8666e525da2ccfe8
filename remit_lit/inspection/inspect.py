"""``inspect``: prepared text coloured by the weights that strategies give its tokens, in one HTML file."""

from collections.abc import Mapping
from pathlib import Path

from lightning.fabric import Fabric

from remit_lit.data.manifest import Manifest
from remit_lit.errors import ConfigError
from remit_lit.files import write_whole
from remit_lit.inspection.contents import Strategy, contents
from remit_lit.inspection.excerpt import rows_weighed_together, take
from remit_lit.inspection.page import render
from remit_lit.inspection.policies import find_policies
from remit_lit.inspection.settings import InspectSettings, TrainerFields
from remit_lit.inspection.weigh import key_of, score_policy, score_references, weigh
from remit_lit.reference.reading import check_reads
from remit_lit.reference.reference import Reference
from remit_lit.training.datamodule import PackedData
from remit_lit.training.module import MidTrainingModule
from remit_lit.training.planned import planned_precision


def inspect(
    strategies: Mapping[str, MidTrainingModule],
    data: PackedData,
    settings: InspectSettings,
    trainer: TrainerFields | None = None,
) -> Path:
    """Weigh rows by each strategy with each policy, and write the page.

    Args:
        strategies: by name, built as for ``fit`` and of one policy; none is set up.
        data: the rows, and how training makes batches of them.
        settings: what to show, and where.
        trainer: of the run that the weights are to be those of; None is one process in float32.

    Returns:
        The file.

    Raises:
        ConfigError: the file cannot be written, there are too few rows, a model does not read them, a column is
            missing, or a strategy's weights are wrong.
        DataError: a checkpoint or a column is damaged.
        NonFiniteError: an NLL is NaN or infinite.
    """
    settings.check()
    trainer, first = trainer or TrainerFields(), next(iter(strategies.values()))
    precision = planned_precision(trainer.precision)
    data.prepare_data()
    manifest = data.manifest
    references = _checked_references(strategies, manifest)
    policies = find_policies(first.spec, settings.policies, manifest)
    with_entropy = any(module.weighting.signals for module in strategies.values())
    columns = [name for reference in references for name in reference.columns(with_entropy=with_entropy)]
    of_strategies = [name for module in strategies.values() for name in module.weighting.columns]
    packed = data.load_rows(settings.split, list(dict.fromkeys([*columns, *of_strategies])))
    for known in references:
        known.check_columns({name: column.facts for name, column in packed.columns.items()})
    groups = {name: rows_weighed_together(module.weighting, data, trainer) for name, module in strategies.items()}
    excerpt = take(packed, data, settings, max(groups.values()))

    fabric = Fabric(accelerator=trainer.accelerator, devices=1, precision=precision)  # type: ignore[arg-type]
    tokenizer = first.spec.load_tokenizer()
    scores = score_references(references, first.spec, excerpt, fabric.device, with_entropy=with_entropy)
    options = {"is_bf16": precision == "bf16-true", "with_entropy": with_entropy}
    of_policies = {policy.name: score_policy(policy, excerpt, fabric, **options) for policy in policies}
    names = {key_of(reference, first.spec): str(reference) for reference in references}
    weighed = []
    for name, module in strategies.items():
        neutral = module.neutral_of(tokenizer).to(fabric.device)
        with_each = [weigh(module, neutral, excerpt, groups[name], known, scores) for known in of_policies.values()]
        reference = None if module.reference is None else list(scores).index(key_of(module.reference, first.spec))
        weighed.append(Strategy(name, module, groups[name], reference, with_each))
    named = [(names[key], known.nll) for key, known in scores.items() if known.nll is not None]
    nlls = {name: known.nll for name, known in of_policies.items() if known.nll is not None}
    page = render(contents(settings, excerpt, manifest, tokenizer, nlls, named, weighed))
    write_whole(Path(settings.output), page)
    return Path(settings.output)


def _checked_references(strategies: Mapping[str, MidTrainingModule], manifest: Manifest) -> list[Reference]:
    """The frozen models to score with, those that only stand beside a strategy's weights among them.

    Raises:
        ConfigError: one does not read the rows, or is to be sharded.
    """
    found: list[Reference] = []
    for module in strategies.values():
        check_reads("model.policy", module.spec, manifest)
        base = module.base if module.weighting.needs_reference else None
        for reference in (module.reference, base):
            if reference is None:
                continue
            if getattr(reference, "sharded", False):
                raise ConfigError("model.reference.sharded: got true, but inspect runs on one device; give false")
            reference.check(module.spec, manifest)
            found.append(reference)
    return found
