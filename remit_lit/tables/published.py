"""Figures of others, read from a file such as baselines/results.yaml."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from remit_lit.configs import find_config
from remit_lit.errors import ConfigError
from remit_lit.tables.settings import Published

Figures = dict[tuple[str, str], float]
"""By (row, method), in the units that a table shows."""


def read_published(published: Published) -> tuple[Figures, str]:
    """The figures of one family, and where they are from.

    The file has ``source``; ``benchmarks``, a list of rows; ``families``, by family and method a figure for each of
    these rows; and perhaps ``claims``, by family, method and row.

    Raises:
        ConfigError: the file cannot be read or is not of this form, or has no such family.
    """
    path = find_config("published.file", published.file)
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path))
        source, benchmarks, families = content["source"], content["benchmarks"], content["families"]
    except (OSError, YAMLError, KeyError, TypeError) as error:
        raise ConfigError(
            f"published.file: {path} cannot be read; it must have source, benchmarks and families ({error!r})"
        ) from error
    if published.family not in families:
        raise ConfigError(f"published.family: got {published.family!r}; {path} has {', '.join(families)}")
    figures: Figures = {}
    for method, values in families[published.family].items():
        place = f"{path}, families.{published.family}.{method}"
        if len(values) != len(benchmarks):
            raise ConfigError(f"published.file: {place} has {len(values)} figures for {len(benchmarks)} benchmarks")
        figures |= _of_method(method, dict(zip(benchmarks, values, strict=True)), place)
    for method, claims in content.get("claims", {}).get(published.family, {}).items():
        figures |= _of_method(method, claims, f"{path}, claims.{published.family}.{method}")
    return figures, str(source)


def _of_method(method: str, values: Mapping[str, Any], place: str) -> Figures:
    wrong = {row: value for row, value in values.items() if not isinstance(value, (int, float))}
    if wrong:
        raise ConfigError(f"published.file: {place} has {wrong}; give numbers")
    return {(row, method): float(value) for row, value in values.items()}
