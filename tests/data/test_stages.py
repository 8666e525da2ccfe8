"""Mixes in stages, and sources whose documents are repeated: what the rows of each stage hold."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from remit_lit.data.manifest import read_manifest, require_settings
from remit_lit.data.mixing import Stage
from remit_lit.data.prepare import prepare
from remit_lit.data.settings import PrepareSettings
from remit_lit.errors import ConfigError
from tests.byte_level import BYTE_EOS
from tests.data.texts import corpus, documents_in, settings_for, split_rows

Draw = Literal["documents", "shards"]
DRAWS: tuple[Draw, ...] = ("documents", "shards")
STAGES = [Stage(2000, {"web": 1.0}), Stage(1000, {"web": 0.25, "math": 0.75})]
TEXTS = {name: corpus(name, 150) for name in ("web", "math")}


def tokens_in(texts: list[str]) -> int:
    return sum(len(text.encode()) + 1 for text in texts)


def staged(tokenizer: Path, **options: Any) -> PrepareSettings:
    return settings_for(tokenizer, TEXTS, **{"stages": STAGES, **options})


@pytest.mark.parametrize("draw", DRAWS)
def test_each_stage_has_its_own_shares_in_rows_of_its_own(draw: Draw, byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    rows = prepare(tmp_path / "rows", staged(byte_tokenizer_dir, draw=draw))
    manifest = read_manifest(rows)
    stages = manifest.counts["train"]["stages"]
    names, begin = manifest.sources["train"], 0
    all_rows = split_rows(rows)
    for stage, facts in zip(STAGES, stages, strict=True):
        assert stage.num_tokens is not None and stage.mix is not None
        held = Counter[str]()
        for row in all_rows.select(range(begin, begin + facts["rows"])):
            for length, source in zip(row["document_lengths"], row["document_sources"], strict=True):
                held[names[source]] += length
        begin += facts["rows"]
        taken = {name: counts["tokens"] for name, counts in facts["sources"].items()}
        assert facts["rows"] == sum(taken.values()) // 32
        for name, texts in TEXTS.items():
            share = stage.mix.get(name, 0.0)
            assert stage.num_tokens * share <= taken[name] < stage.num_tokens * share + max(map(len, texts)) * 3 + 1
            assert held[name] <= taken[name] < held[name] + 32 or share == held[name] == 0
    assert begin == len(all_rows) == manifest.counts["train"]["rows"]
    for name, counts in manifest.counts["train"]["sources"].items():
        assert counts["tokens"] == sum(facts["sources"][name]["tokens"] for facts in stages)
    assert manifest.settings["stages"] == [{"num_tokens": s.num_tokens, "mix": s.mix} for s in STAGES]
    assert "stage 2: 3" in "\n".join(manifest.summary())
    require_settings(rows, staged(byte_tokenizer_dir, draw=draw))
    with pytest.raises(ConfigError, match="stages: "):
        require_settings(rows, staged(byte_tokenizer_dir, draw=draw, stages=STAGES[:1]))


@pytest.mark.parametrize("draw", DRAWS)
def test_no_document_is_in_two_stages(draw: Draw, byte_tokenizer_dir: Path, tmp_path: Path) -> None:
    rows = prepare(tmp_path / "rows", staged(byte_tokenizer_dir, draw=draw))
    begun = [
        bytes(t for t in row["input_ids"][start : start + length] if t != BYTE_EOS).split(b":")[0]
        for row in split_rows(rows)
        for start, length in zip(_starts(row["document_lengths"]), row["document_lengths"], strict=True)
        if length > 8
    ]
    named = [name for name in begun if name.startswith((b"web", b"math"))]
    assert len(named) > 40 and max(Counter(named).values()) == 1


def _starts(lengths: list[int]) -> list[int]:
    return [sum(lengths[:index]) for index in range(len(lengths))]


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("times", [2.0, 2.5])
def test_without_shares_documents_are_repeated_so_often(
    times: float, draw: Draw, byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    settings = settings_for(byte_tokenizer_dir, TEXTS, draw=draw, repeat={"math": times}, sequence_length=2)
    rows = prepare(tmp_path / "rows", settings)
    counts = read_manifest(rows).counts["train"]["sources"]
    most = times * tokens_in(TEXTS["math"])
    assert int(most) <= counts["math"]["tokens"] < most + 130
    assert counts["web"]["tokens"] == tokens_in(TEXTS["web"])
    found = Counter(documents_in(rows)[0])
    assert {found[text] for text in TEXTS["web"]} <= {0, 1}  # the last one may be cut off
    assert {found[text] for text in TEXTS["math"]} <= ({1, 2} if times == 2 else {1, 2, 3})
    assert sum(found[text] == 3 for text in TEXTS["math"]) == pytest.approx(150 * (times - 2), abs=25)


@pytest.mark.parametrize("draw", DRAWS)
def test_a_share_repeats_documents_only_as_often_as_it_needs(
    draw: Draw, byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    once = tokens_in(TEXTS["math"])
    settings = settings_for(
        byte_tokenizer_dir,
        TEXTS,
        draw=draw,
        mix={"web": 0.25, "math": 0.75},
        num_tokens=once * 16 // 10,
        repeat={"math": 2.0, "web": 4.0},
    )
    counts = read_manifest(prepare(tmp_path / "rows", settings)).counts["train"]["sources"]
    assert counts["math"]["tokens"] == pytest.approx(once * 1.2, abs=130)
    assert counts["web"]["tokens"] == pytest.approx(once * 0.4, abs=130)
    with pytest.raises(ConfigError) as raised:
        prepare(tmp_path / "more", replace(settings, num_tokens=3 * once))
    for part in (f"num_tokens: {3 * once}", f"holds {once} and may be taken 2 times", "repeat.math: 2.3"):
        assert part in str(raised.value)


@pytest.mark.parametrize("draw", DRAWS)
def test_a_source_that_ends_before_a_stage_is_full_is_refused(
    draw: Draw, byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    once = tokens_in(TEXTS["web"])
    stages = [Stage(once - 100, {"web": 1.0}), Stage(1000, {"web": 0.5, "math": 0.5})]
    with pytest.raises(ConfigError) as raised:
        prepare(tmp_path / "rows", staged(byte_tokenizer_dir, draw=draw, stages=stages))
    for part in (
        "stages.1.num_tokens: 1000 tokens with a share of 0.5 from 'web'",
        f"need, with the stages before, {once + 400} of its tokens, but it holds {once};",
        "change the stages.1.mix",
    ):
        assert part in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stages": []}, "stages: got none"),
        ({"num_tokens": 100}, "num_tokens: got 100 beside stages"),
        ({"mix": {"web": 0.5, "math": 0.5}}, "mix: got .* beside stages"),
        ({"stages": [Stage(None, {"web": 1.0})]}, r"stages\.0\.num_tokens: got null"),
        ({"stages": [STAGES[1], Stage(100)]}, r"stages\.1\.mix: got null"),
        ({"stages": [Stage(31, {"web": 1.0})]}, r"stages\.0\.num_tokens: got 31; give at least one row of 32"),
        ({"stages": [Stage(100, {"wbe": 1.0})]}, r"stages\.0\.mix: names \['wbe'\].*did you mean web\?"),
        ({"stages": [Stage(100, {"web": 0.5, "math": 0.4})]}, r"stages\.0\.mix: shares sum to 0.9"),
        ({"stages": [Stage(100, {"web": 1.0})]}, r"stages: none has a share of \['math'\]"),
        ({"repeat": {"mth": 2.0}}, "repeat: names 'mth'.*did you mean math"),
        ({"repeat": {"math": 0.5}}, r"repeat\.math: got 0.5"),
        ({"repeat": {"math": float("inf")}}, r"repeat\.math: got inf"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    options: dict[str, Any], message: str, byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(tmp_path / "rows", staged(byte_tokenizer_dir, **options))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("draw", DRAWS)
def test_the_summary_says_what_each_source_got_against_its_share(
    draw: Draw, byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    texts = {name: [f"{name}{i:05}" for i in range(40)] for name in ("text", "math")}  # each of 10 tokens
    mix = {"text": 0.6, "math": 0.4}
    settings = settings_for(byte_tokenizer_dir, texts, draw=draw, mix=mix, num_tokens=205)
    text, math = read_manifest(prepare(tmp_path / "mixed", settings)).summary()[1:3]
    assert text.startswith("  text: 13 documents, 130 tokens, 117 bytes, 0 skipped; ")
    assert text.endswith("; 59.09 % for a share of 60 %, 7 tokens more than asked for")
    assert math.endswith("; 40.91 % for a share of 40 %, 8 tokens more than asked for")
    stages = [Stage(205, mix), Stage(100, {"math": 1.0})]
    rows = prepare(tmp_path / "staged", replace(settings, mix=None, num_tokens=None, stages=stages))
    assert [line for line in read_manifest(rows).summary() if line.startswith("    ")] == [
        "    text: 130 tokens; 59.09 % for a share of 60 %, 7 tokens more than asked for",
        "    math: 90 tokens; 40.91 % for a share of 40 %, 8 tokens more than asked for",
        "    text: 0 tokens; 0.00 % for a share of 0 %, 0 tokens more than asked for",
        "    math: 100 tokens; 100.00 % for a share of 100 %, 0 tokens more than asked for",
    ]
