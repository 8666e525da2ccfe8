"""Packed rows are read back as bytes and compared with the documents that went in."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

import remit_lit.data.row_files as row_files
import remit_lit.data.sources as sources_module
from remit_lit.data.manifest import read_manifest
from remit_lit.data.prepare import prepare
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import JsonLines, Source
from remit_lit.errors import ConfigError, DataError
from tests.byte_level import BYTE_EOS, byte_tokenizer
from tests.data.sleeper import prepare_and_stop
from tests.data.texts import Texts, corpus, digest, documents_in, settings_for, split_rows, tokens_of
from tests.processes import kill
from tests.warm import ForkedProcess


@pytest.mark.parametrize("sequence_length", [2, 7, 32, 1000])
def test_rows_hold_exactly_the_documents_each_followed_by_eos(
    sequence_length: int, byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    sources = {"web": corpus("web", 60), "math": corpus("math", 45)}
    rows = prepare(tmp_path / "rows", settings_for(byte_tokenizer_dir, sources, sequence_length=sequence_length))
    given = Counter(text for texts in sources.values() for text in texts)
    read, cut = documents_in(rows)
    left = given - Counter(read)
    assert left.total() == given.total() - len(read)
    total = sum(len(text.encode()) + 1 for text in given.elements())
    kept = len(tokens_of(rows))
    assert kept == total // sequence_length * sequence_length
    if cut:
        assert any(text.encode().startswith(cut) for text in left)
    assert sum(len(text.encode()) + 1 for text in left.elements()) - len(cut) == total - kept


@pytest.mark.parametrize("kept", ["as it is", "truncates and pads"])
def test_tokens_are_those_that_transformers_gives(kept: str, byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(byte_tokenizer_dir)
    eos = tokenizer.eos_token
    texts = [" two  spaces", f"an {eos} within", f"{eos}", "naïve 漢字 \u200b", "\ttabs\r\nand lines\n\n"] * 3
    expected = Counter(tuple(tokenizer(text)["input_ids"]) for text in texts)
    if kept == "truncates and pads":
        tokenizer.backend_tokenizer.enable_truncation(4)
        tokenizer.backend_tokenizer.enable_padding(length=50)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    rows = prepare(tmp_path / "rows", settings_for(tmp_path / "tokenizer", {"web": texts}, sequence_length=2))
    ids = tokens_of(rows)
    total = sum(len(document) + (document[-1] != BYTE_EOS) for document in expected.elements())
    assert total - len(ids) < 2
    given = [[*document, *([] if document[-1] == BYTE_EOS else [BYTE_EOS])] for document in expected.elements()]
    assert Counter(ids) - Counter(token for document in given for token in document) == Counter()


def test_a_tokenizer_that_has_its_own_way_is_asked_for_it(
    byte_tokenizer_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shouting(PreTrainedTokenizerFast):
        def __call__(self, text: Any, *args: Any, **options: Any) -> Any:
            return super().__call__([each.upper() for each in text], *args, **options)

    shouting = Shouting.from_pretrained(byte_tokenizer_dir)
    monkeypatch.setattr("remit_lit.data.prepare.load_tokenizer", lambda *_: shouting)
    rows = prepare(tmp_path / "rows", settings_for(byte_tokenizer_dir, {"web": ["abc"] * 8}, sequence_length=4))
    assert bytes(tokens_of(rows)[:3]) == b"ABC"


@pytest.mark.parametrize("sequence_length", [7, 32])
def test_document_boundaries_and_sources_are_where_the_documents_are(
    sequence_length: int, byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    sources = {"web": corpus("web", 40), "math": corpus("math", 40)}
    rows = prepare(tmp_path / "rows", settings_for(byte_tokenizer_dir, sources, sequence_length=sequence_length))
    names = read_manifest(rows).sources["train"]
    current = bytearray()
    for row in split_rows(rows):
        start = 0
        assert sum(row["document_lengths"]) == sequence_length == len(row["input_ids"])
        for index, (length, source) in enumerate(zip(row["document_lengths"], row["document_sources"], strict=True)):
            piece = row["input_ids"][start : start + length]
            start += length
            assert BYTE_EOS not in piece[:-1]
            assert piece[-1] == BYTE_EOS or index == len(row["document_lengths"]) - 1
            current += bytes(token for token in piece if token != BYTE_EOS)
            if piece[-1] == BYTE_EOS:
                assert current.decode() in sources[names[source]]
                current = bytearray()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_counts_are_those_of_the_documents(share: float, byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    sources = {"web": corpus("web", 50), "math": corpus("math", 31)}
    rows = prepare(tmp_path / "rows", settings_for(byte_tokenizer_dir, sources, validation_share=share))
    manifest = read_manifest(rows)
    splits = ["train", "validation"] if share else ["train"]
    assert sorted(manifest.counts) == sorted(manifest.fingerprints) == splits
    for name, texts in sources.items():
        counted = [manifest.counts[split]["sources"][name] for split in splits]
        size = sum(len(text.encode()) for text in texts)
        assert sum(count["documents"] for count in counted) == len(texts)
        assert sum(count["bytes"] for count in counted) == size
        assert sum(count["tokens"] for count in counted) == size + len(texts)
        if share:
            assert abs(counted[1]["documents"] - share * len(texts)) <= 0.5
    for split in splits:
        tokens = sum(count["tokens"] for count in manifest.counts[split]["sources"].values())
        assert manifest.counts[split]["rows"] == len(split_rows(rows, split)) == tokens // 32


def test_a_full_disk_is_named_and_leaves_nothing(
    byte_tokenizer_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(row_files.RowWriter, "add", refuse)
    with pytest.raises(DataError, match=r"output: cannot write .*rows: no space left .*--output on another disk"):
        prepare(tmp_path / "rows", settings_for(byte_tokenizer_dir, {"web": corpus("web", 100)}))
    assert not any(tmp_path.iterdir())


def test_held_out_documents_are_not_trained_on(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    sources = {"web": corpus("web", 80), "math": corpus("math", 40)}
    rows = prepare(tmp_path / "rows", settings_for(byte_tokenizer_dir, sources, validation_share=0.25))
    train, validation = (set(documents_in(rows, split)[0]) for split in ("train", "validation"))
    assert train and validation
    assert not train & validation
    assert train | validation <= {text for texts in sources.values() for text in texts}
    assert {text.split(":")[0].rstrip("0123456789") for text in validation} == {"web", "math"}


def test_validation_sources_of_their_own(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    sources, held_out = {"web": corpus("web", 40)}, corpus("dev", 30)
    settings = settings_for(byte_tokenizer_dir, sources, validation_share=0.3, validation={"dev": Texts(held_out)})
    rows = prepare(tmp_path / "rows", settings)
    assert read_manifest(rows).sources == {"train": ["web"], "validation": ["dev"]}
    assert read_manifest(rows).counts["train"]["sources"]["web"]["documents"] == 40
    assert set(documents_in(rows)[0]) <= set(sources["web"])
    assert set(documents_in(rows, "validation")[0]) <= set(held_out)


@pytest.mark.parametrize("mix", [{"web": 0.7, "math": 0.2, "code": 0.1}, {"web": 0.05, "math": 0.05, "code": 0.9}])
@pytest.mark.parametrize("num_tokens", [None, 900])
def test_the_mix_is_reached_within_one_document(
    mix: dict[str, float], num_tokens: int | None, byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    sources = {name: corpus(name, 60) for name in mix}
    rows = prepare(tmp_path / "rows", settings_for(byte_tokenizer_dir, sources, mix=mix, num_tokens=num_tokens))
    counts = read_manifest(rows).counts["train"]["sources"]
    sizes = {name: [len(text.encode()) + 1 for text in texts] for name, texts in sources.items()}
    wanted = num_tokens or min(sum(sizes[name]) / share for name, share in mix.items())
    for name, share in mix.items():
        assert wanted * share - 2 <= counts[name]["tokens"] < wanted * share + max(sizes[name])


def test_num_tokens_without_a_mix_keeps_the_proportions_of_the_sources(
    byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    sources = {"web": corpus("web", 90), "math": corpus("math", 30)}
    rows = prepare(tmp_path / "rows", settings_for(byte_tokenizer_dir, sources, num_tokens=1000))
    counts = read_manifest(rows).counts["train"]["sources"]
    sizes = {name: [len(text.encode()) + 1 for text in texts] for name, texts in sources.items()}
    total = sum(sum(lengths) for lengths in sizes.values())
    for name, lengths in sizes.items():
        wanted = 1000 * sum(lengths) / total
        assert wanted - 2 <= counts[name]["tokens"] < wanted + max(lengths)


@pytest.mark.parametrize("mix", [None, {"web": 0.5, "math": 0.5}])
def test_more_tokens_than_there_are_is_refused_naming_the_source(
    mix: dict[str, float] | None, byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    sources = {"web": corpus("web", 200), "math": corpus("math", 5)}
    total = sum(len(text.encode()) + 1 for texts in sources.values() for text in texts)
    wanted = total + 100 if mix is None else total // 2
    with pytest.raises(ConfigError, match=rf"num_tokens: {wanted}.*'(web|math)'") as raised:
        prepare(tmp_path / "rows", settings_for(byte_tokenizer_dir, sources, mix=mix, num_tokens=wanted))
    assert mix is None or "'math'" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_rows_depend_on_the_seed_and_not_on_the_workers(
    byte_tokenizer_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_files, "_ROWS_PER_BATCH", 8)
    monkeypatch.setattr(sources_module, "_PIECE_BYTES", 400)
    for name in ("web", "math"):
        lines = [json.dumps({"text": text}) for text in corpus(name, 60)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    sources: dict[str, Source] = {name: JsonLines(str(tmp_path / f"{name}.jsonl")) for name in ("web", "math")}
    assert all(len(source.shards()) > 2 for source in sources.values())
    settings = PrepareSettings(str(byte_tokenizer_dir), sources, sequence_length=32, validation_share=0.2)
    one = prepare(tmp_path / "one", settings)
    again = prepare(tmp_path / "again", settings)
    two = prepare(tmp_path / "two", replace(settings, num_workers=2))
    other = prepare(tmp_path / "other", replace(settings, seed=1))
    assert digest(one)["manifest.json"] == digest(again)["manifest.json"] == digest(two)["manifest.json"]
    assert digest(one) == digest(again)
    fingerprints = read_manifest(other).fingerprints
    for split in ("train", "validation"):
        expected = [(row["input_ids"], row["document_lengths"]) for row in split_rows(one, split)]
        assert [(row["input_ids"], row["document_lengths"]) for row in split_rows(two, split)] == expected
        assert fingerprints[split] != read_manifest(one).fingerprints[split]
        assert [(row["input_ids"], row["document_lengths"]) for row in split_rows(other, split)] != expected


def test_the_fingerprint_is_of_tokens_boundaries_and_sources(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    def fingerprint(name: str, sources: dict[str, list[str]]) -> str:
        rows = prepare(tmp_path / name, settings_for(byte_tokenizer_dir, sources))
        return read_manifest(rows).fingerprints["train"]

    texts = ["a" * 31] * 20
    base = fingerprint("base", {"x": texts})
    assert fingerprint("renamed", {"y": texts}) == base
    assert fingerprint("other-letter", {"x": ["b" * 31] * 20}) != base
    assert fingerprint("two-sources", {"x": texts[:10], "y": texts[10:]}) != base


@pytest.mark.parametrize("template", ["$A <|end|>", "<|end|> $A"])
def test_a_tokenizer_that_adds_eos_itself_ends_documents_once(template: str, tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer()
    special = [("<|end|>", BYTE_EOS)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=special)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    rows = prepare(tmp_path / "rows", settings_for(tmp_path / "tokenizer", {"x": ["ab"] * 32}, sequence_length=12))
    expected = [97, 98, BYTE_EOS] if template.startswith("$A") else [BYTE_EOS, 97, 98, BYTE_EOS]
    assert tokens_of(rows) == expected * (32 * len(expected) // 12 * 12 // len(expected))
    assert {n for row in split_rows(rows) for n in row["document_lengths"]} == {len(expected)}


@pytest.mark.parametrize("tokens", [63, 64])
def test_less_text_than_a_row_is_refused(tokens: int, byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    settings = settings_for(byte_tokenizer_dir, {"web": ["x" * (tokens - 1)]}, sequence_length=64)
    if tokens == 64:
        assert len(split_rows(prepare(tmp_path / "rows", settings))) == 1
        return
    with pytest.raises(DataError, match=r"63 tokens.*64"):
        prepare(tmp_path / "rows", settings)
    assert list(tmp_path.iterdir()) == []


def test_less_validation_text_than_a_row_leaves_no_validation(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    texts = ["0123456789"] * 100
    settings = settings_for(byte_tokenizer_dir, {"web": texts}, validation_share=0.02)
    with pytest.warns(UserWarning, match="held-out documents do not fill a row"):
        rows = prepare(tmp_path / "rows", settings)
    assert list(read_manifest(rows).fingerprints) == ["train"]
    assert not (rows / "validation").exists()


def test_the_summary_counts_each_source(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    settings = settings_for(byte_tokenizer_dir, {"a": ["xy", "z"]}, sequence_length=2)
    summary = read_manifest(prepare(tmp_path / "rows", settings)).summary()
    assert summary == ["train: 2 rows of 2 tokens", "  a: 2 documents, 5 tokens, 3 bytes, 0 skipped"]


def test_an_existing_output_is_refused_or_replaced_as_a_whole(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    settings = settings_for(byte_tokenizer_dir, {"web": corpus("web", 30)})
    rows = prepare(tmp_path / "rows", settings)
    before = digest(rows)
    with pytest.raises(ConfigError, match=r"output: .*exists.*overwrite"):
        prepare(rows, settings)
    with pytest.raises(DataError, match="less than one row"):
        prepare(rows, settings_for(byte_tokenizer_dir, {"web": ["x"]}), overwrite=True)
    assert digest(rows) == before
    (rows / "columns").mkdir()
    prepare(rows, replace(settings, seed=5), overwrite=True)
    assert read_manifest(rows).settings["seed"] == 5
    assert not (rows / "columns").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sources": {}}, "sources: got none"),
        ({"sequence_length": 1}, "sequence_length: got 1"),
        ({"num_workers": 0}, "num_workers: got 0"),
        ({"num_tokens": 31}, "num_tokens: got 31.*32"),
        ({"validation_share": 1.0}, "validation_share: got 1.0"),
        ({"validation_share": -0.1}, "validation_share: got -0.1"),
        ({"mix": {"web": 1.0}}, r"mix: names \['web'\].*\['math', 'web'\]"),
        ({"mix": {"web": 0.6, "math": 0.6}}, "mix: shares sum to 1.2"),
        ({"mix": {"web": 1.0, "math": 0.0}}, "mix.math: got 0.0"),
        ({"tokenizer": "/no/such/tokenizer"}, "tokenizer: .*/no/such/tokenizer"),
        ({"sources": {"web": JsonLines("/no/such/*.jsonl")}}, "nothing matches '/no/such"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_written(
    options: dict[str, Any], message: str, byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    sources = {"web": ["abc"] * 100, "math": ["def"] * 100}
    with pytest.raises(ConfigError, match=message):
        prepare(tmp_path / "rows", replace(settings_for(byte_tokenizer_dir, sources), **options))
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_without_eos_is_refused(tmp_path: Path) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer().backend_tokenizer)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ConfigError, match="no EOS token"):
        prepare(tmp_path / "rows", settings_for(tmp_path / "tokenizer", {"web": ["abc"] * 100}))


def test_a_text_that_the_tokenizer_cannot_read_is_an_error_that_says_so(
    tiny_tokenizer_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, DataError), match=r"'web'.*UNK"):
        prepare(tmp_path / "rows", settings_for(tiny_tokenizer_dir, {"web": ["Z" * 50] * 10}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("stage", "workers"), [("tokenising", 1), ("tokenising", 2), ("packed", 1)])
def test_a_killed_run_leaves_no_rows_and_a_second_one_cleans_up(
    stage: str, workers: int, byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    arguments = [tmp_path, stage, workers, byte_tokenizer_dir]
    process = ForkedProcess(prepare_and_stop, arguments, tmp_path.with_suffix(".txt"))
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "reached").exists():
            assert process.poll() is None, "the process ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        kill(process)
    (tmp_path / "reached").unlink()
    left = [path.name for path in tmp_path.iterdir()]
    assert left and "rows" not in left
    for name in left:
        with pytest.raises(ConfigError, match=r"holds no (prepared )?rows"):
            read_manifest(tmp_path / name)
    rows = prepare(tmp_path / "rows", settings_for(byte_tokenizer_dir, {"web": corpus("web", 30)}))
    assert len(split_rows(rows)) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


def test_two_runs_at_once_do_not_take_each_others_files(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    texts = corpus("web", 30)

    class Meanwhile(Texts):
        """A second run of the same output starts and ends while this one tokenises."""

        def read(self, shard: str) -> Iterator[str | None]:
            if not (tmp_path / "rows").exists():
                prepare(tmp_path / "rows", settings_for(byte_tokenizer_dir, {"web": texts}))
            yield from super().read(shard)

    settings = settings_for(byte_tokenizer_dir, {"web": texts})
    with pytest.raises(ConfigError, match=r"output: another process has just written"):
        prepare(tmp_path / "rows", replace(settings, sources={"web": Meanwhile(texts)}))
    assert np.sum([len(row["input_ids"]) for row in split_rows(tmp_path / "rows")]) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


def test_rows_without_a_whole_manifest_are_refused(byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    rows = prepare(tmp_path / "rows", settings_for(byte_tokenizer_dir, {"web": corpus("web", 30)}))
    whole = (rows / "manifest.json").read_text()
    for damaged in (whole[: len(whole) // 2], "{}", "[]", "null"):
        (rows / "manifest.json").write_text(damaged)
        with pytest.raises(ConfigError, match=r"manifest\.json is damaged"):
            read_manifest(rows)
