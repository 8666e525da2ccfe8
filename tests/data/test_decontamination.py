"""`prepare` with `decontaminate`, against a slow comparison of words."""

import json
import random
import string
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import remit_lit.data.sources as sources_module
from remit_lit.benchmarks.items import evaluation_items
from remit_lit.cli.dispatch import main
from remit_lit.data.decontamination import read_items
from remit_lit.data.lab_documents import LabDocuments
from remit_lit.data.manifest import read_manifest, require_settings
from remit_lit.data.prepare import prepare
from remit_lit.data.settings import PrepareSettings
from remit_lit.data.sources import JsonLines
from remit_lit.errors import ConfigError, DataError
from remit_lit.lab.task import DEV_PROBLEMS, TEST_PROBLEMS, correct_completion, sample_problems
from tests.data.texts import Texts, corpus, digest, documents_in, settings_for


def plain_words(text: str) -> list[str]:
    """As lm-evaluation-harness' janitor has them."""
    return text.lower().translate(str.maketrans("", "", string.punctuation)).split()


def slow_shares(document: str, items: Iterable[str], ngram: int) -> bool:
    words = plain_words(document)
    for item in map(plain_words, items):
        if not item:
            continue
        length = min(ngram, len(item))
        if length < 5:
            if words == item:
                return True
            continue
        wanted = [item[i : i + length] for i in range(len(item) - length + 1)]
        if any(words[i : i + length] in wanted for i in range(len(words) - length + 1)):
            return True
    return False


def prose(rng: random.Random, words: int) -> str:
    """Words of a small vocabulary, so that short runs are shared often and long ones seldom."""
    return " ".join(rng.choice(["the", "of", "A", "sum,", "is", "twelve.", "(x)", "We're"]) for _ in range(words))


def write_items(directory: Path, items: list[Any], name: str = "items.jsonl") -> str:
    lines = items if name.endswith(".txt") else [json.dumps(item) for item in items]
    (directory / name).write_text("".join(f"{line}\n" for line in lines))
    return str(directory / name)


def run_of(first: int, count: int) -> str:
    """Distinct words, e.g. "w3 w4"."""
    return " ".join(f"w{i}" for i in range(first, first + count))


@pytest.mark.parametrize("ngram", [5, 8, 13])
def test_what_is_kept_is_what_a_slow_comparison_keeps(ngram: int, tmp_path: Path, byte_tokenizer_dir: Path) -> None:
    rng = random.Random(ngram)
    items = [prose(rng, rng.randint(0, 20)) for _ in range(40)]
    longer = {5: 6, 8: 40, 13: 200}[ngram]
    documents = [prose(rng, rng.randint(1, longer)) for _ in range(300)]
    documents += [f"{prose(rng, 5)} {item} {prose(rng, 5)}" for item in items]
    documents += [item.upper() for item in items if item]
    rng.shuffle(documents)
    clean = [text for text in documents if not slow_shares(text, items, ngram)]
    assert 50 < len(clean) < len(documents) - 50
    entry = write_items(tmp_path, [{"text": item} for item in items])
    settings = settings_for(byte_tokenizer_dir, {"web": documents}, decontaminate=[entry], decontaminate_ngram=ngram)
    rows = prepare(tmp_path / "rows", settings)
    manifest, (read, _) = read_manifest(rows), documents_in(rows)
    cut_off = Counter(clean) - Counter(read)
    assert not Counter(read) - Counter(clean)
    assert sum(len(text) for text in cut_off.elements()) < 32 + max(map(len, cut_off), default=0)
    counts = manifest.counts["train"]["sources"]["web"]
    assert (counts["documents"], counts["bytes"]) == (len(clean), sum(map(len, clean)))
    assert manifest.decontamination is not None
    assert manifest.decontamination.dropped == {"web": len(documents) - len(clean)}


@pytest.mark.parametrize(
    ("item", "document", "shared"),
    [
        (run_of(0, 13), f"x {run_of(0, 13)} y", True),
        (run_of(0, 13), f"x {run_of(0, 12)} y", False),
        (run_of(0, 13), f"{run_of(0, 6)} x {run_of(6, 7)}", False),
        (run_of(0, 13), " ".join(reversed(run_of(0, 13).split())), False),
        (run_of(0, 40), f"x {run_of(20, 13)} y", True),
        (run_of(0, 40), run_of(20, 12), False),
        (run_of(0, 13), run_of(0, 13).upper(), True),
        (run_of(0, 13), "'" + run_of(0, 13).replace(" ", "!),\n\t(") + "_", True),
        (run_of(0, 13), "“" + run_of(0, 13).replace(" ", "…” «") + "。", True),
        ("don't " + run_of(0, 12), "dont " + run_of(0, 12), True),
        ("É " + run_of(0, 12), "é " + run_of(0, 12), True),
        ("É " + run_of(0, 12), "e " + run_of(0, 12), False),
        (run_of(0, 12), f"x {run_of(0, 12)} y", True),  # whole items of 5 to 12 words
        (run_of(0, 12), f"x {run_of(0, 11)} y", False),
        (run_of(0, 5), f"x {run_of(0, 5)} y", True),
        (run_of(0, 4), f"x {run_of(0, 4)} y", False),  # shorter ones are matched by nothing but themselves
        (run_of(0, 4), "W0, w1 w2: w3?", True),
        ("yes", "Yes.", True),
        ("yes", "yes yes", False),
        ("...", "!", False),
    ],
)
def test_runs_of_words(item: str, document: str, shared: bool, tmp_path: Path) -> None:
    entry = write_items(tmp_path, [item, "never in a document of these"], "items.txt")
    assert read_items([entry], 13).shares(document) == shared


def test_drops_are_counted_by_source_and_reported(tmp_path: Path, byte_tokenizer_dir: Path) -> None:
    leak = f"before {run_of(0, 13)} after"
    items = write_items(tmp_path, [{"question": run_of(0, 20), "choices": ["a b c d e f", "g"], "id": 7}])
    other = write_items(tmp_path, ["one two three four five", "six seven eight nine ten eleven"], "other.txt")
    sources = {
        "web": [*corpus("web", 40), leak, leak.upper()],
        "math": [*corpus("math", 30), "is one two, three four five!", "a b c d e f"],
        "code": corpus("code", 20),
    }
    settings = settings_for(byte_tokenizer_dir, sources, decontaminate=[items, other])
    rows = prepare(tmp_path / "rows", settings)
    manifest = read_manifest(rows)
    assert manifest.decontaminated_tasks == (items, other)
    facts = manifest.decontamination
    assert facts is not None
    assert facts.dropped == {"web": 2, "math": 1, "code": 0}
    assert [entry["items"] for entry in facts.items.values()] == [1, 2]
    counts = manifest.counts["train"]["sources"]
    assert {name: count["documents"] for name, count in counts.items()} == {"web": 40, "math": 31, "code": 20}
    assert all(count["skipped"] == 0 for count in counts.values())
    assert manifest.summary()[-4:] == [
        f"decontaminated against {items} (1 items), {other} (2 items): runs of 13 words",
        "  web: 2 documents dropped",
        "  math: 1 documents dropped",
        "  code: 0 documents dropped",
    ]


def test_the_fingerprint_is_of_the_items(tmp_path: Path) -> None:
    def fingerprint(items: list[str], name: str) -> object:
        entry = write_items(tmp_path, items, name)
        return read_items([entry], 13).items[entry]["fingerprint"]

    first = fingerprint(["one two", "three"], "a.txt")
    assert fingerprint(["one two", "three"], "b.txt") == first
    assert len({first, fingerprint(["one", "two three"], "c.txt"), fingerprint(["three", "one two"], "d.txt")}) == 3


def test_rows_do_not_depend_on_the_workers(
    tmp_path: Path, byte_tokenizer_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources_module, "_PIECE_BYTES", 2000)
    rng = random.Random(0)
    documents = [prose(rng, rng.randint(1, 30)) for _ in range(200)]
    (tmp_path / "web.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    source = JsonLines(str(tmp_path / "web.jsonl"))
    assert len(source.shards()) > 4
    entry = write_items(tmp_path, [prose(rng, 20) for _ in range(30)], "items.txt")
    settings = PrepareSettings(
        str(byte_tokenizer_dir), {"web": source}, sequence_length=32, decontaminate=[entry], decontaminate_ngram=5
    )
    one = prepare(tmp_path / "one", settings)
    two = prepare(tmp_path / "two", replace(settings, num_workers=2))
    assert digest(one)["manifest.json"] == digest(two)["manifest.json"]
    facts = read_manifest(one).decontamination
    assert facts is not None and 20 < facts.dropped["web"] < 180


def test_where_nothing_is_shared_the_rows_are_those_without(tmp_path: Path, byte_tokenizer_dir: Path) -> None:
    settings = settings_for(byte_tokenizer_dir, {"web": ["", *corpus("web", 60)]}, validation_share=0.2)
    settings.sources["web"] = _WithSkipped(corpus("web", 60))
    entry = write_items(tmp_path, [run_of(0, 30)], "items.txt")
    without = prepare(tmp_path / "without", settings)
    compared = prepare(tmp_path / "compared", replace(settings, decontaminate=[entry]))
    without_digest, compared_digest = digest(without), digest(compared)
    assert without_digest.pop("manifest.json") != compared_digest.pop("manifest.json")
    assert without_digest == compared_digest
    assert read_manifest(without).counts == read_manifest(compared).counts
    assert read_manifest(without).counts["train"]["sources"]["web"]["skipped"] == 6
    assert read_manifest(without).decontaminated_tasks == ()
    content = json.loads((without / "manifest.json").read_text())
    assert not [name for name in (*content, *content["settings"]) if name.startswith("decontaminat")]


class _WithSkipped(Texts):
    def read(self, shard: str) -> Iterator[str | None]:
        yield None
        yield from super().read(shard)


def test_held_out_documents_are_compared_and_validation_sources_are_not(
    tmp_path: Path, byte_tokenizer_dir: Path
) -> None:
    leaks = [f"{i} {run_of(0, 13)}" for i in range(20)]
    entry = write_items(tmp_path, [run_of(0, 13)], "items.txt")
    settings = settings_for(
        byte_tokenizer_dir, {"web": [*corpus("web", 40), *leaks]}, validation_share=0.5, decontaminate=[entry]
    )
    rows = prepare(tmp_path / "held-out", settings)
    assert not {*documents_in(rows)[0], *documents_in(rows, "validation")[0]} & set(leaks)
    rows = prepare(tmp_path / "own", replace(settings, validation={"dev": Texts(leaks)}))
    assert read_manifest(rows).counts["validation"]["sources"]["dev"]["documents"] == 20


def test_a_source_of_which_nothing_is_left_is_refused(tmp_path: Path, byte_tokenizer_dir: Path) -> None:
    entry = write_items(tmp_path, [run_of(0, 13)], "items.txt")
    sources = {"web": corpus("web", 40), "leak": [f"{i} {run_of(0, 13)}" for i in range(3)]}
    with pytest.raises(DataError, match=r"source 'leak': all of its 3 documents share words with the items"):
        prepare(tmp_path / "rows", settings_for(byte_tokenizer_dir, sources, decontaminate=[entry]))
    assert [path.name for path in tmp_path.iterdir()] == ["items.txt"]


def test_rows_made_otherwise_are_not_taken_for_these(tmp_path: Path, byte_tokenizer_dir: Path) -> None:
    entry = write_items(tmp_path, [run_of(0, 13)], "items.txt")
    settings = settings_for(byte_tokenizer_dir, {"web": corpus("web", 40)})
    compared = replace(settings, decontaminate=[entry])
    without_rows, compared_rows = prepare(tmp_path / "a", settings), prepare(tmp_path / "b", compared)
    require_settings(without_rows, settings)
    require_settings(without_rows, replace(settings, decontaminate_ngram=8))  # means nothing there
    require_settings(compared_rows, compared)
    for rows, other in (
        (without_rows, compared),
        (compared_rows, settings),
        (compared_rows, replace(compared, decontaminate_ngram=8)),
    ):
        with pytest.raises(ConfigError, match=r"prepared with other settings \(decontaminate"):
            require_settings(rows, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decontaminate": []}, "decontaminate: got an empty list"),
        ({"decontaminate": ["lab"], "decontaminate_ngram": 4}, "decontaminate_ngram: got 4; give at least 5"),
        ({"decontaminate": ["/no/such.jsonl"]}, r"decontaminate: there is no file '/no/such\.jsonl'"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    options: dict[str, Any], message: str, byte_tokenizer_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare(tmp_path / "rows", settings_for(byte_tokenizer_dir, {"web": corpus("web", 40)}, **options))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": "b"}\n{"a"\n', r"items\.jsonl, line 2: not JSON"),
        (b'{"a": "b"}\n\xff\n', r"items\.jsonl, line 2: bytes that are not UTF-8"),
        (b'{"a": 1}\n\n', r"items\.jsonl' has no item with a word in it"),
        (b"", r"items\.jsonl' has no item with a word in it"),
    ],
)
def test_malformed_items_are_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_items([str(tmp_path / "items.jsonl")], 13)


def test_lab_problems_that_are_measured_with_are_left_out(tmp_path: Path, tiny_tokenizer_dir: Path) -> None:
    measured = sample_problems(TEST_PROBLEMS, "test")[-50:] + sample_problems(DEV_PROBLEMS, "dev")[-50:]
    leaks = [problem.prompt + correct_completion(problem) for problem in measured]
    kept = [problem.prompt + correct_completion(problem) for problem in sample_problems(30, "train")]
    settings = PrepareSettings(
        str(tiny_tokenizer_dir),
        {"correct": LabDocuments("correct", 300), "leak": Texts(leaks + kept)},
        sequence_length=132,
        decontaminate=["lab"],
    )
    manifest = read_manifest(prepare(tmp_path / "rows", settings))
    assert manifest.decontaminated_tasks == ("lab",)
    facts = manifest.decontamination
    assert facts is not None
    assert facts.items["lab"]["items"] == DEV_PROBLEMS + TEST_PROBLEMS
    assert facts.dropped == {"correct": 0, "leak": 100}


def test_the_command_line_reports_what_was_dropped(
    tmp_path: Path, byte_tokenizer_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = write_items(tmp_path, [run_of(0, 13)], "items.txt")
    (tmp_path / "web.txt").write_text("".join(f"{i} some words of a text\n" for i in range(40)) + run_of(0, 14))
    source = {
        "web": {
            "class_path": "remit_lit.data.sources.PlainText",
            "init_args": {"files": str(tmp_path / "web.txt"), "document": "line"},
        }
    }
    arguments = [f"--sources={json.dumps(source)}", f"--tokenizer={byte_tokenizer_dir}", "--sequence_length=32"]
    main(["prepare", f"--output={tmp_path / 'rows'}", *arguments, f"--decontaminate=[{entry}]"])
    assert "web: 1 documents dropped" in capsys.readouterr().out


HARNESS_TASKS = {
    "questions": {
        "output_type": "generate_until",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "{{answers}}",
    },
    "choices": {
        "output_type": "multiple_choice",
        "doc_to_text": "question",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
    },
    "blanks": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{gold}}",  # of its choices
        "doc_to_choice": "{{[question ~ ' ' ~ choices[0], question ~ ' ' ~ choices[1]]}}",
        "doc_to_target": "rest",
    },
}


def test_the_items_of_a_harness_task_are_its_questions_with_right_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = pytest.importorskip("remit_lit.benchmarks.catalogue")
    record = {"question": "Who is it", "answers": ["Ann", "Bob"], "choices": ["no", "yes"], "gold": 1, "rest": "indeed"}
    training = {**record, "question": "Not this"}
    for split, content in (("test", record), ("train", training)):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(content) + "\n")
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("train", "test")}
    (tmp_path / "tasks").mkdir()
    for name, fields in HARNESS_TASKS.items():
        config = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files},
            "training_split": "train",
            "test_split": "test",
            **fields,
        }
        (tmp_path / "tasks" / f"{name}.yaml").write_text(json.dumps(config))
    (tmp_path / "tasks" / "group.yaml").write_text(json.dumps({"group": "both", "task": ["questions", "choices"]}))
    monkeypatch.setattr(plan, "TASKS", tmp_path / "tasks")
    plan.catalogue.cache_clear()
    monkeypatch.setattr("remit_lit.benchmarks.offline.offline_folder", lambda cache: None)
    try:
        asked = [("questions", "Question: Who is it\nAnswer: Ann"), ("questions", "Question: Who is it\nAnswer: Bob")]
        chosen = [("choices", "Who is it yes")]
        assert list(evaluation_items("questions")) == asked
        assert list(evaluation_items("choices")) == chosen
        assert list(evaluation_items("blanks")) == [("blanks", "Who is it yes indeed")]
        assert list(evaluation_items("both")) == asked + chosen
        assert list(read_items(["both", "blanks"], 13).items) == ["questions", "choices", "blanks"]
        (tmp_path / "test.jsonl").unlink()
        with pytest.raises(ConfigError, match="decontaminate: the items of 'choices' cannot be loaded"):
            list(evaluation_items("choices"))
    finally:
        plan.catalogue.cache_clear()
