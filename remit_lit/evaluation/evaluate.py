"""``evaluate``: a model on benchmarks, item by item, as one JSON file."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.fabric import Fabric

from remit_lit.benchmarks.offline import CACHE
from remit_lit.errors import ConfigError
from remit_lit.evaluation.harness import check_tasks, run_tasks
from remit_lit.evaluation.report import not_run, results_table
from remit_lit.evaluation.results import Evaluation
from remit_lit.models.export import as_model
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import LiveReference
from remit_lit.runs.provenance import now, provenance
from remit_lit.terminal import console

_PACKAGES = ("lm_eval", "torch", "transformers", "tokenizers", "datasets", "math-verify")


def evaluate(
    model: ModelSpec,
    tasks: list[str] | str,
    output: str,
    limit: int | None = None,
    batch_size: int = 8,
    max_length: int | None = None,
    allow_code_execution: bool = False,
    seed: int = 0,
    cache: str = CACHE,
    accelerator: str = "auto",
    overwrite: bool = False,
) -> Path:
    """Evaluate a model on benchmarks and write the outcome of every item.

    Args:
        model: the model to evaluate; its path is a hub id, a local directory, a run folder, or a checkpoint of a run.
            Of a hub id, revision says which; the default branch of a base may be the model after mid-training.
        tasks: the tasks or groups to run, a list or names with commas, e.g. lab,gsm8k; remit_offline needs no hub,
            remit_paper is the paper's ten benchmarks and remit_paper_zero_shot the same without examples, lab is the
            lab's own test, and all tasks of lm-evaluation-harness work too. A .jsonl file of documents is measured in
            bits per byte.
        output: the JSON file to write.
        limit: how many items to take from the start of each task, and of each part of a pooled one; null takes all.
        batch_size: how many sequences are processed at a time; lower it when memory runs out.
        max_length: the context window in tokens; longer contexts lose their beginning. Null is the model's own.
        allow_code_execution: run code that the model wrote (HumanEval, MBPP), in a sandbox; without it such tasks are
            reported as not run.
        seed: the seed of what a task draws at random, e.g. its few-shot examples.
        cache: the folder for the data of the offline tasks.
        accelerator: cpu or gpu; auto uses a GPU if there is one.
        overwrite: replace the file if it exists.

    Returns:
        The file.

    Raises:
        ConfigError: a task is unknown, the file exists, there is no model, or a number is below 1.
        DataError: a checkpoint, or a file of documents, is damaged.
    """
    names = tasks.split(",") if isinstance(tasks, str) else tasks
    arguments = {name: value for name, value in locals().items() if name not in ("model", "names")} | {"tasks": names}
    path = Path(output)
    if path.is_dir() or (path.exists() and not overwrite):
        raise ConfigError(f"output: {output} exists; give another file, or --overwrite=true")
    with as_model(model) as spec:
        tokenizer = spec.load_tokenizer()
        check_tasks(names, tokenizer, limit=limit, batch_size=batch_size, max_length=max_length, cache=cache)
        subject = LiveReference(spec)
        subject.field = "model"
        subject.load(spec, Fabric(accelerator=accelerator, devices=1).device)
        start = time.perf_counter()
        results = run_tasks(
            subject.model,
            tokenizer,
            names,
            limit=limit,
            batch_size=batch_size,
            max_length=max_length,
            allow_code_execution=allow_code_execution,
            seed=seed,
            cache=cache,
        )
        seconds = round(time.perf_counter() - start, 2)
        weights = {"weights_hash": subject.weights_hash(), "parameters": subject.model.num_parameters()}
        facts: dict[str, Any] = {
            "model": {**asdict(model), **weights},
            "settings": arguments,
            "device": str(subject.model.device),
            **provenance(_PACKAGES),
            "ended": now(),
            "seconds": seconds,
        }
    evaluation = Evaluation(results, facts)
    evaluation.write(path)
    console().print(results_table(evaluation))
    for line in not_run(evaluation):
        print(line)
    return path
