"""Shards drawn until every share is filled: what is read, what is on the disk meanwhile, and which rows come of it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import remit_lit.data.shards as module
import remit_lit.data.tokenizing as tokenizing
from remit_lit.data.manifest import read_manifest
from remit_lit.data.prepare import prepare
from remit_lit.data.row_files import RowWriter
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import Source
from remit_lit.errors import ConfigError, DataError
from tests.data.texts import Texts, corpus, digest, documents_in, settings_for, tokens_of


class Counting(Texts):
    """Counts the records that were read of it in this process."""

    records = 0

    def read(self, shard: str) -> Iterator[str | None]:
        for text in super().read(shard):
            self.records += 1
            yield text


def shards_of(tokenizer: Path, sources: dict[str, Source], **options: Any) -> PrepareSettings:
    settings = settings_for(tokenizer, {}, draw="shards", **options)
    return replace(settings, sources=sources)


def tokens_in(texts: list[str]) -> int:
    return sum(len(text.encode()) + 1 for text in texts)


@pytest.mark.parametrize("part", [0.1, 0.5])
def test_as_much_is_read_as_is_needed(part: float, byte_tokenizer_dir: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tokenizing, "_TOKENIZE_BATCH", 8)
    texts = {name: corpus(name, 1000) for name in ("web", "math")}
    sources = {name: Counting(of_source, 50) for name, of_source in texts.items()}
    wanted = int(part * 2 * min(tokens_in(of_source) for of_source in texts.values()))
    settings = shards_of(byte_tokenizer_dir, {**sources}, mix={"web": 0.5, "math": 0.5}, num_tokens=wanted)
    counts = read_manifest(prepare(tmp_path / "rows", settings)).counts["train"]["sources"]
    for name, source in sources.items():
        assert wanted / 2 - 1 <= counts[name]["tokens"] < wanted / 2 + max(len(t.encode()) + 1 for t in texts[name])
        assert part * 0.9 <= source.records / 1000 <= part * 1.1 + 0.008


def test_the_whole_of_the_sources_is_read_where_nothing_says_how_much(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    texts = {"web": corpus("web", 60), "math": corpus("math", 45)}
    sources: dict[str, Source] = {name: Texts(of_source) for name, of_source in texts.items()}
    rows = prepare(tmp_path / "rows", shards_of(byte_tokenizer_dir, sources))
    given = Counter(text for of_source in texts.values() for text in of_source)
    assert Counter(documents_in(rows)[0]) <= given
    assert len(tokens_of(rows)) == sum(map(tokens_in, texts.values())) // 32 * 32


def test_the_disk_never_holds_much_more_than_the_rows(
    byte_tokenizer_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    class Watched(RowWriter):
        def add(self, *documents: np.ndarray) -> None:
            super().add(*documents)
            held.append(size_of(tmp_path))

    def size_of(directory: Path) -> int:
        return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())

    monkeypatch.setattr("remit_lit.data.prepare.RowWriter", Watched)
    monkeypatch.setattr(tokenizing, "_SEGMENT_TOKENS", 20_000)
    texts = ["x" * 63] * 12_000
    settings = shards_of(byte_tokenizer_dir, {"web": Texts(texts, 500)}, sequence_length=512, num_tokens=600_000)
    rows = prepare(tmp_path / "rows", settings)
    assert len(held) > 20
    assert max(held) <= 1.2 * size_of(rows)


def shuffling(tokenizer: Path, **options: Any) -> PrepareSettings:
    sources: dict[str, Source] = {name: Texts(corpus(name, 150), 25) for name in ("web", "math")}
    given = {"mix": {"web": 0.7, "math": 0.3}, "num_tokens": 2000, "validation_share": 0.2, **options}
    return shards_of(tokenizer, sources, **given)


@pytest.mark.parametrize(
    "change", [{}, {"repeat": {"math": 3.0}, "num_tokens": 9000, "mix": {"web": 0.2, "math": 0.8}}]
)
def test_rows_depend_on_the_seed_and_not_on_the_workers(
    change: dict[str, Any], byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    settings = shuffling(byte_tokenizer_dir, **change)
    one, again, three = (
        prepare(tmp_path / name, replace(settings, num_workers=workers))
        for name, workers in (("one", 1), ("again", 1), ("three", 3))
    )
    assert digest(one) == digest(again) == digest(three)
    other = prepare(tmp_path / "other", replace(settings, seed=1))
    assert tokens_of(other) != tokens_of(one)
    assert set(documents_in(other)[0]) != set(documents_in(one)[0])


def test_rows_do_not_depend_on_how_segments_are_cut(
    byte_tokenizer_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = shuffling(byte_tokenizer_dir)
    whole = prepare(tmp_path / "whole", settings)
    monkeypatch.setattr(tokenizing, "_SEGMENT_TOKENS", 40)
    assert digest(prepare(tmp_path / "cut", settings)) == digest(whole)


def test_documents_are_shuffled_across_shards(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    texts = [f"{i:04}" for i in range(400)]
    rows = prepare(tmp_path / "rows", shards_of(byte_tokenizer_dir, {"web": Texts(texts, 40)}, sequence_length=5))
    order = [int(text) for text in documents_in(rows)[0]]
    assert sorted(order) == list(range(400))
    # Of neighbours hardly any are of the same shard: 1 in 10 by chance.
    assert np.mean([a // 40 == b // 40 for a, b in pairwise(order)]) < 0.2


def test_held_out_documents_are_not_trained_on_in_any_pass(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    settings = shuffling(byte_tokenizer_dir, repeat={"web": 3.0, "math": 3.0}, mix=None, num_tokens=None)
    rows = prepare(tmp_path / "rows", settings)
    train, validation = (set(documents_in(rows, split)[0]) for split in ("train", "validation"))
    assert train and validation and not train & validation
    counts = read_manifest(rows).counts
    for name in ("web", "math"):
        once = 150 - counts["validation"]["sources"][name]["documents"]
        assert counts["train"]["sources"][name]["documents"] == 3 * once
        assert 0.1 < counts["validation"]["sources"][name]["documents"] / 150 < 0.3


def test_validation_sources_of_their_own(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    held_out = corpus("dev", 30)
    settings = shards_of(byte_tokenizer_dir, {"web": Texts(corpus("web", 40))}, validation={"dev": Texts(held_out)})
    rows = prepare(tmp_path / "rows", settings)
    assert read_manifest(rows).sources == {"train": ["web"], "validation": ["dev"]}
    assert read_manifest(rows).counts["train"]["sources"]["web"]["documents"] == 40
    assert set(documents_in(rows, "validation")[0]) <= set(held_out)


def test_skipped_and_contaminated_documents_are_counted(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "items.txt").write_text("one two three four five six\n")
    texts = ["a plain text", None, "say one two three four five six now", None] * 25
    settings = shards_of(
        byte_tokenizer_dir, {"web": Texts(texts)}, decontaminate=[str(tmp_path / "items.txt")], decontaminate_ngram=5
    )
    manifest = read_manifest(prepare(tmp_path / "rows", settings))
    facts = manifest.counts["train"]["sources"]["web"]
    assert (facts["documents"], facts["tokens"], facts["bytes"], facts["skipped"]) == (25, 25 * 13, 25 * 12, 50)
    assert manifest.decontamination is not None and manifest.decontamination.dropped == {"web": 25}


@pytest.mark.fault("a source that ends before its share", "refused by name")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_source_that_ends_before_its_share_is_refused(workers: int, byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    texts = corpus("math", 20)
    sources: dict[str, Source] = {"web": Texts(corpus("web", 200)), "math": Texts(texts)}
    wanted = 3 * tokens_in(texts)
    settings = shards_of(byte_tokenizer_dir, sources, mix={"web": 0.5, "math": 0.5}, num_tokens=wanted)
    with pytest.raises(ConfigError) as raised:
        prepare(tmp_path / "rows", replace(settings, num_workers=workers))
    for part in (f"num_tokens: {wanted} tokens", "'math'", f"holds {tokens_in(texts)};", "repeat.math: 1.5"):
        assert part in str(raised.value)
    assert list(tmp_path.iterdir()) == []
    rows = prepare(tmp_path / "rows", replace(settings, repeat={"math": 1.5}))
    assert read_manifest(rows).counts["train"]["sources"]["math"]["tokens"] >= wanted // 2


def test_no_repetition_is_proposed_that_would_be_refused(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    texts = corpus("math", 2)
    sources: dict[str, Source] = {"web": Texts(corpus("web", 200)), "math": Texts(texts)}
    settings = shards_of(
        byte_tokenizer_dir, sources, mix={"web": 0.5, "math": 0.5}, num_tokens=2 * 101 * tokens_in(texts)
    )
    with pytest.raises(ConfigError, match=r"lower num_tokens or change the mix$"):
        prepare(tmp_path / "rows", replace(settings, repeat={"web": 100.0}))


def test_a_source_without_text_is_refused(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    for texts in ([], [None]):
        with pytest.raises(DataError, match="source 'void': no document with text in it"):
            prepare(tmp_path / "rows", shards_of(byte_tokenizer_dir, {"void": Texts(texts)}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_tokens": 100}, "draw: got 'shards' with num_tokens and without mix"),
        ({"mix": {"web": 0.5, "math": 0.5}}, "draw: got 'shards' with mix and without num_tokens"),
        ({"draw": "files"}, "draw: got 'files'"),
    ],
)
def test_what_cannot_be_drawn_by_shards_is_refused(
    options: dict[str, Any], message: str, byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    sources: dict[str, Source] = {"web": Texts(["abc"] * 50), "math": Texts(["abc"] * 50)}
    with pytest.raises(ConfigError, match=message):
        prepare(tmp_path / "rows", replace(shards_of(byte_tokenizer_dir, sources), **options))


def test_parts_fit_in_memory_however_many_tokens_there_are() -> None:
    settings = PrepareSettings("lab/bytes", {"web": Texts([])}, num_tokens=50 * 10**9, draw="shards")
    parts = module._parts_of(settings)
    assert 50e9 / parts.training <= module._PART_TOKENS
    assert 0.009 < parts.held_out / parts.number < 0.012
