"""``manifest.json``: what a directory of rows was made from, and the fingerprints by which others refer to it."""

import dataclasses
import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from remit_lit import __version__
from remit_lit.data.mixing import Stage
from remit_lit.data.sources import Source
from remit_lit.data.storage import local_copy, located
from remit_lit.errors import ConfigError
from remit_lit.files import near_path
from remit_lit.models.tokenization import tokenizer_fingerprint

if TYPE_CHECKING:
    import datasets

    from remit_lit.data.settings import PrepareSettings

SPLITS = ("train", "validation")
_NAME = "manifest.json"
# Settings that change the speed only: two directories that differ only here hold the same rows.
_SPEED_ONLY = {"num_workers"}
# Settings without effect unless there is something to decontaminate against.
_OF_DECONTAMINATION = {"decontaminate", "decontaminate_ngram"}
# Settings that earlier versions did not have, and what these did.
_LATER: dict[str, Any] = {"stages": None, "repeat": None, "draw": "documents"}


@dataclass(frozen=True)
class DecontaminationFacts:
    """What training documents were compared with, and how many were dropped.

    Attributes:
        ngram: words in a run; no kept document shares one with an item.
        items: number and fingerprint of the items of each task or file.
        dropped: number of dropped documents by source.
    """

    ngram: int
    items: dict[str, dict[str, Any]]
    dropped: dict[str, int]

    def summary(self) -> list[str]:
        """What was compared and dropped, a line each."""
        items = ", ".join(f"{name} ({facts['items']:,} items)" for name, facts in self.items.items())
        return [
            f"decontaminated against {items}: runs of {self.ngram} words",
            *(f"  {name}: {count:,} documents dropped" for name, count in self.dropped.items()),
        ]


@dataclass(frozen=True)
class Manifest:
    """Facts of prepared rows.

    Attributes:
        sequence_length: tokens in a row.
        tokenizer: fingerprint of the tokenizer.
        sources: names of the sources of each split; a row's source ids index them.
        fingerprints: hash of the rows of each split.
        counts: rows of each split, and documents, tokens, bytes and skipped records per source; of training rows in
            stages, rows and counts of each stage.
        settings: of ``prepare``.
        versions: of the packages that made the rows.
        decontamination: what training documents were compared with; None where they were not.
    """

    sequence_length: int
    tokenizer: str
    sources: dict[str, list[str]]
    fingerprints: dict[str, str]
    counts: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    versions: dict[str, str]
    decontamination: DecontaminationFacts | None = None

    @property
    def decontaminated_tasks(self) -> tuple[str, ...]:
        """Tasks and files whose items share no run of words with a training document; () if none were compared."""
        return () if self.decontamination is None else tuple(self.decontamination.items)

    @property
    def stages(self) -> tuple[int, ...]:
        """Training rows of each stage, in order; () where there is one mix only."""
        return tuple(stage["rows"] for stage in self.counts["train"].get("stages", ()))

    def summary(self) -> list[str]:
        """Rows, documents, tokens and skipped records of each split and source, and rows of each stage, a line each.

        Beside a source stands what it got against its share of a mix.
        """
        lines = []
        for split, count in self.counts.items():
            lines.append(f"{split}: {count['rows']:,} rows of {self.sequence_length:,} tokens")
            mixed = split == "train" and not self.stages
            got = _got(count["sources"], self.settings) if mixed else {}
            lines += [
                f"  {name}: {facts['documents']:,} documents, {facts['tokens']:,} tokens, {facts['bytes']:,} bytes, "
                f"{facts['skipped']:,} skipped{got.get(name, '')}"
                for name, facts in count["sources"].items()
            ]
            for number, stage in enumerate(count.get("stages", ())):
                lines.append(f"  stage {number + 1}: {stage['rows']:,} rows")
                got = _got(stage["sources"], self.settings["stages"][number])
                lines += [
                    f"    {name}: {facts['tokens']:,} tokens{got[name]}" for name, facts in stage["sources"].items()
                ]
        return lines if self.decontamination is None else [*lines, *self.decontamination.summary()]


def _got(sources: dict[str, dict[str, Any]], settings: dict[str, Any]) -> dict[str, str]:
    said = Stage(settings.get("num_tokens"), settings.get("mix")).got(
        {n: facts["tokens"] for n, facts in sources.items()}
    )
    return {name: f"; {words}" for name, words in said.items()}


def settings_of(settings: "PrepareSettings") -> dict[str, Any]:
    """The settings as plain JSON values, without those that do not change the rows."""

    def plain(value: Any) -> Any:
        if isinstance(value, Source):
            return value.settings()
        if isinstance(value, list):
            return [plain(each) for each in value]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.asdict(value)
        return {name: plain(v) for name, v in value.items()} if isinstance(value, dict) else value

    fields = (f.name for f in dataclasses.fields(settings))
    skipped = _SPEED_ONLY | (_OF_DECONTAMINATION if settings.decontaminate is None else set())
    skipped |= {name for name, value in _LATER.items() if getattr(settings, name) == value}
    whole = {name: plain(getattr(settings, name)) for name in fields if name not in skipped}
    result: dict[str, Any] = json.loads(json.dumps(whole, default=str))
    return result


def versions() -> dict[str, str]:
    """Of the packages that make rows."""
    packages = ("datasets", "tokenizers", "transformers", "numpy", "pyarrow")
    return {"remit_lit": __version__, **{name: importlib.metadata.version(name) for name in packages}}


def rows_fingerprint(rows: "datasets.Dataset") -> str:
    """Hash of the tokens and document boundaries of rows, in order."""
    digest = hashlib.blake2b(digest_size=16)
    for batch in rows.with_format("arrow").iter(1024):
        for name in ("input_ids", "document_lengths", "document_sources"):
            values = batch.column(name).combine_chunks().flatten()
            digest.update(np.ascontiguousarray(values.to_numpy()).tobytes())
    return digest.hexdigest()


def write_manifest(
    directory: Path,
    tokenizer: PreTrainedTokenizerBase,
    settings: dict[str, Any],
    counts: dict[str, dict[str, Any]],
    fingerprints: dict[str, str],
    decontamination: DecontaminationFacts | None = None,
) -> None:
    """Write ``manifest.json`` of the rows in ``directory``."""
    manifest = Manifest(
        sequence_length=settings["sequence_length"],
        tokenizer=tokenizer_fingerprint(tokenizer),
        sources={split: list(count["sources"]) for split, count in counts.items()},
        fingerprints=fingerprints,
        counts=counts,
        settings=settings,
        versions=versions(),
        decontamination=decontamination,
    )
    content = dataclasses.asdict(manifest)
    if decontamination is None:
        del content["decontamination"]
    (directory / _NAME).write_text(json.dumps(content, indent=2) + "\n")


def read_manifest(directory: str | Path) -> Manifest:
    """Read the manifest of prepared rows.

    Args:
        directory: or its URL.

    Raises:
        ConfigError: ``directory`` holds no complete rows.
    """
    path = located(directory, _NAME)
    try:
        copy = local_copy(path)
    except FileNotFoundError:
        raise ConfigError(
            f"rows: {directory} holds no rows; {near_path(str(directory))}make them with `python -m remit_lit prepare`"
        ) from None
    try:
        content = json.loads(copy.read_text())
        if facts := content.get("decontamination"):
            content["decontamination"] = DecontaminationFacts(**facts)
        return Manifest(**content)
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"rows: {path} is damaged ({error}); prepare the rows again") from error


def require_settings(directory: str | Path, settings: "PrepareSettings") -> None:
    """Raise ConfigError, listing the fields that differ, unless the rows were prepared with ``settings``."""
    saved, current = read_manifest(directory).settings, settings_of(settings)
    different = sorted(name for name in saved.keys() | current.keys() if saved.get(name) != current.get(name))
    if different:
        details = "; ".join(f"{name}: {saved.get(name)!r} on disk, {current.get(name)!r} here" for name in different)
        raise ConfigError(
            f"data.prepare: {directory} was prepared with other settings ({details}); name another data.rows"
        )
