"""Models whose weights may be added up: of one architecture and tokenizer, with the same tensors."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from remit_lit.errors import ConfigError, DataError
from remit_lit.files import near_path
from remit_lit.models.fingerprint import files_fingerprint
from remit_lit.models.locations import resolve
from remit_lit.models.spec import ModelSpec
from remit_lit.models.tokenization import require_same_tokenizer, tokenizer_fingerprint
from remit_lit.runs.folder import MODEL

# Of a config, what no weight depends on: where it is from, and which tokens begin and end a text.
_NOT_OF_WEIGHTS = ("_name_or_path", "transformers_version", "dtype", "use_cache")
_TOKEN_ID = "_token_id"


@dataclass(frozen=True)
class Ingredient:
    """One of several models on disk; only headers of its weights are read here.

    Attributes:
        given: what the user called it.
        directory: that has its files.
    """

    given: str
    directory: Path

    @property
    def spec(self) -> ModelSpec:
        """What loads its config and its tokenizer."""
        return ModelSpec(str(self.directory))

    @cached_property
    def files(self) -> list[Path]:
        """Its safetensors, in order of name.

        Raises:
            ConfigError: it has none.
            DataError: the index of several cannot be read.
        """
        single, index = self.directory / SAFE_WEIGHTS_NAME, self.directory / SAFE_WEIGHTS_INDEX_NAME
        if single.is_file():
            return [single]
        if not index.is_file():
            raise ConfigError(f"models: {self.given} has no {SAFE_WEIGHTS_NAME}; save its weights as safetensors")
        try:
            names = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise DataError(f"models: {index} is damaged ({error!r}); fetch or export the model again") from error
        return [self.directory / name for name in sorted(names)]

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each tensor by name."""
        return {name: shape for shapes in self._headers.values() for name, shape in shapes.items()}

    @cached_property
    def file_of(self) -> dict[str, Path]:
        """The file of each tensor by name."""
        return {name: file for file, shapes in self._headers.items() for name in shapes}

    @cached_property
    def _headers(self) -> dict[Path, dict[str, tuple[int, ...]]]:
        return {file: _shapes_in(file) for file in self.files}

    @cached_property
    def architecture(self) -> dict[str, Any]:
        """Fields of its config that decide what weights mean."""
        fields = self.spec.load_config("models").to_dict()
        return {
            name: value
            for name, value in fields.items()
            if name not in _NOT_OF_WEIGHTS and not name.endswith(_TOKEN_ID)
        }

    @cached_property
    def fingerprint(self) -> str:
        """Of the files of its weights."""
        return files_fingerprint(self.files)


def read_ingredients(models: Sequence[str]) -> list[Ingredient]:
    """The models at some paths, any two of which may be added up; no weights are loaded.

    Args:
        models: directories of models, folders of runs, or lab/base, lab/sft, lab/reference.

    Raises:
        ConfigError: there is no such model, one is given twice, or two differ in architecture, tokenizer, or the names
            or shapes of their tensors.
        DataError: a file is missing or damaged.
    """
    ingredients = [Ingredient(given, _directory(given)) for given in models]
    _require_distinct(ingredients, [str(each.directory.resolve()) for each in ingredients])
    first = ingredients[0]
    tokenizer = tokenizer_fingerprint(first.spec.load_tokenizer())
    for each in ingredients[1:]:
        _require_alike("config", first, each, first.architecture, each.architecture)
        found = tokenizer_fingerprint(each.spec.load_tokenizer())
        require_same_tokenizer(f"models: {each.given}", found, first.given, tokenizer)
        _require_alike("tensors", first, each, first.shapes, each.shapes)
    _require_distinct(ingredients, [each.fingerprint for each in ingredients])
    return ingredients


def _directory(given: str) -> Path:
    directory = Path(resolve(given, "models"))
    for found in (directory, directory / MODEL):
        if (found / "config.json").is_file():
            return found
    raise ConfigError(
        f"models: {given!r} is neither the directory of a model nor the folder of a run that has ended; "
        f"{near_path(given)}fetch a model from a hub first, and `export` a checkpoint"
    )


def _require_distinct(ingredients: Sequence[Ingredient], identities: Sequence[str]) -> None:
    for number, identity in enumerate(identities):
        if identity in identities[:number]:
            earlier = ingredients[identities.index(identity)].given
            raise ConfigError(
                f"models: {ingredients[number].given} is the same model as {earlier}; give each once, with a share of "
                "its own in weights"
            )


def _require_alike(what: str, first: Ingredient, other: Ingredient, one: dict[str, Any], two: dict[str, Any]) -> None:
    differing = [name for name in sorted({*one, *two}) if one.get(name) != two.get(name)]
    if differing:
        sides = "; ".join(f"{name} is {one.get(name)} and {two.get(name)}" for name in differing[:3])
        more = f", and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ConfigError(
            f"models: {first.given} and {other.given} differ in their {what} ({sides}{more}); give models of one "
            "architecture"
        )


def _shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(file, "pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise DataError(f"models: {file} is missing or damaged ({error}); fetch or export the model again") from error
