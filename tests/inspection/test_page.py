"""The page as a file: whole in itself, small, and safe whatever the text holds."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from remit_lit.data.sources import JsonLines
from remit_lit.inspection.arrays import Arrays
from remit_lit.inspection.inspect import inspect
from remit_lit.inspection.page import render
from remit_lit.inspection.pieces import pieces_of, visible
from remit_lit.inspection.settings import InspectSettings, TrainerFields
from remit_lit.models.spec import ModelSpec
from remit_lit.pages.page import escaped
from remit_lit.reference.reference import LiveReference
from remit_lit.weighting import NextTokenPrediction, ReMiT
from tests.byte_level import byte_tokenizer, save_byte_model
from tests.helpers import build, make_rows
from tests.inspection.reading import Shown, read_page

HOSTILE = (
    "</script><script>document.title = 'broken'</script><!--<script> <img src=x onerror=alert(1)> &amp; &lt; \u2028 "
    "\u2029 {{data}} {{script}} \\u003c ]]> '\"` <style>*{display:none}</style> ünïcode \U0001d6fc 日本"
)
OWN = ["html", "head", "meta", "meta", "meta", "meta", "title", "style", "body"]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of rows whose documents and source are markup."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "text.jsonl").write_text((json.dumps({"text": HOSTILE}) + "\n") * 24)
    model = save_byte_model(folder / "model")
    source = {"<b>&source</b>": JsonLines(str(folder / "text.jsonl"))}
    rows = make_rows(folder / "rows", model, 512, sources=dict(source))
    reference = LiveReference(ModelSpec(str(model)))
    strategies = {}
    for name, weighting in (("<i>ntp</i>", NextTokenPrediction()), ("</script>", ReMiT())):
        run, data = build(rows, model, folder, weighting=weighting, reference=reference)
        strategies[name] = run.module
    settings = InspectSettings(str(folder / "page.html"), num_rows=6)
    return inspect(strategies, data, settings, TrainerFields("cpu"))


@pytest.fixture(scope="module")
def page(hostile: Path) -> Shown:
    return read_page(hostile)


def test_documents_make_no_elements(page: Shown) -> None:
    assert page.elements[: len(OWN)] == OWN
    assert page.elements.count("script") == 2
    assert not {"img", "b", "i"} & set(page.elements)
    assert HOSTILE.encode().decode("latin-1") in page.text(0) + page.text(1)
    assert page.data["sources"] == ["<b>&source</b>"]
    assert [strategy["name"] for strategy in page.data["strategies"]] == ["<i>ntp</i>", "</script>"]


def test_the_page_asks_for_nothing(page: Shown) -> None:
    assert not re.search(
        r"""(src|action)\s*=|href\s*=(?!"#side")|url\(|@import|fetch\(|https?://(?!www\.w3\.org/2000/svg)""", page.html
    )
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page.html)
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy


@pytest.mark.parametrize("text", ["<", ">", "&", "\u2028", "\u2029"])
def test_what_means_something_in_html_is_escaped_and_read_back(text: str) -> None:
    value = {f"a{text}": [f"{text}b"]}
    assert text not in escaped(value)
    assert json.loads(escaped(value)) == value


def test_places_in_data_are_no_places_of_the_page() -> None:
    html = render({"text": "{{script}}{{data}}"})
    assert html.count('"{{script}}{{data}}"') == 1


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"word", "word"),
        (b" a b", "·\u200ba·\u200bb"),
        (b"\n\t\r", "↵\n⇥\t␍"),
        ("\u00a0\u202e\u200b\u2028".encode(), "⍽⟨U+202E⟩⟨U+200B⟩⟨U+2028⟩"),
        (b"\x07\x1b[0m", "⟨U+0007⟩⟨U+001B⟩[0m"),
        ("é".encode()[:1], "⟨C3⟩"),
        (b"x\xff ", "x⟨FF⟩·\u200b"),
        ("\u0301".encode(), "◌\u0301"),
        ("日本".encode(), "日本"),
    ],
)
def test_every_character_can_be_seen(content: bytes, shown: str) -> None:
    assert visible(content) == shown


def test_tokens_of_bytes_hold_their_bytes() -> None:
    tokenizer, text = byte_tokenizer(), "naïve 日\n"
    ids = tokenizer(text)["input_ids"]
    pieces = pieces_of(tokenizer, [*ids, tokenizer.eos_token_id])
    assert "".join(piece.content for piece in pieces[:-1]).encode("latin-1").decode() == text
    assert [piece.is_special for piece in pieces] == [False] * len(ids) + [True]
    assert pieces[-1].shown == "<|end|>"


def test_sentencepieces_spaces_and_bytes_are_found() -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<s>": 0, "</s>": 1, "▁the": 2, "<0xE6>": 3, "x": 4}
    backend = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence(steps)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    shown = [piece.shown for piece in pieces_of(tokenizer, [0, 2, 3, 4, 9])]
    assert shown == ["<s>", "·\u200bthe", "⟨E6⟩", "x", "⟨id 9⟩"]


def test_fifty_rows_of_two_thousand_tokens_stay_below_five_megabytes() -> None:
    draw, shape, arrays = np.random.default_rng(0), (50, 2048), Arrays()
    policy, reference = draw.exponential(2.0, shape), draw.exponential(2.0, shape)
    excess = policy - reference
    centred = excess - excess.mean(1, keepdims=True)
    for values in (policy, reference, centred, np.clip(2 / (1 + np.exp(-centred)), 0.8, 1.2), np.ones(shape)):
        arrays.add(values, "f4")
    arrays.add(draw.zipf(1.2, shape) % 50_000, "u4")
    arrays.add(np.ones(shape), "u1")
    before = len(arrays.packed())
    assert arrays.add(policy, "f4")["at"] == 0  # as strategies compare with the same policy
    assert len(arrays.packed()) == before < 5e6 - len(render({}))
