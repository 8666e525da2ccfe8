"""``evaluate``: a model on benchmarks, item by item, as one JSON file."""

import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from transformers import PreTrainedTokenizerBase

from remit_lit.benchmarks.catalogue import Unit
from remit_lit.benchmarks.offline import CACHE
from remit_lit.errors import ConfigError, not_among, require_at_least
from remit_lit.evaluation.harness import ask, check_tasks, run_tasks
from remit_lit.evaluation.report import not_run, results_table
from remit_lit.evaluation.results import Evaluation, TaskResult
from remit_lit.evaluation.vllm_backend import check_vllm, vllm_arguments
from remit_lit.models.export import as_model
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import LiveReference
from remit_lit.runs.provenance import now, provenance
from remit_lit.runs.ranks import rank, world_size
from remit_lit.terminal import console

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Backend = Literal["hf", "vllm"]

_PACKAGES = ("lm_eval", "torch", "transformers", "tokenizers", "datasets", "math-verify")
# Ranks wait for each other at the end of each task, for as long as the slowest answers.
_TIMEOUT = timedelta(days=7)


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
    backend: Backend = "hf",
    devices: int | None = None,
    vllm: dict[str, Any] | None = None,
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
        backend: what answers: hf is transformers; vllm is faster where answers are sampled, needs a GPU and the extra
            vllm, and does not run the lab's test.
        devices: how many devices each hold a whole model and answer a share of the requests; of vllm, which also needs
            ray for it, replicas. Null is as many as torchrun started processes, or one.
        vllm: further arguments of lm-evaluation-harness's vLLM model by its own names, e.g. {tensor_parallel_size: 2}.

    Returns:
        The file.

    Raises:
        ConfigError: a task is unknown, the file exists, there is no model, a number is below 1, or the backend cannot
            run here.
        DataError: a checkpoint, or a file of documents, is damaged.
    """
    names = tasks.split(",") if isinstance(tasks, str) else tasks
    arguments = {name: value for name, value in locals().items() if name not in ("model", "names")} | {"tasks": names}
    path = Path(output)
    if path.is_dir() or (path.exists() and not overwrite):
        raise ConfigError(f"output: {output} exists; give another file, or --overwrite=true")
    _check_backend(backend, accelerator, devices, vllm)
    with as_model(model) as spec:
        tokenizer = spec.load_tokenizer()
        units = check_tasks(names, tokenizer, limit=limit, batch_size=batch_size, max_length=max_length, cache=cache)
        options = {"limit": limit, "allow_code_execution": allow_code_execution, "seed": seed, "cache": cache}
        if backend == "vllm":
            arguments_of_vllm = vllm_arguments(spec, tokenizer, max_length, seed, devices or 1, vllm or {})
            found = _by_vllm(spec, tokenizer, units, arguments_of_vllm, options)
        else:
            window = {"batch_size": batch_size, "max_length": max_length}
            found = _by_transformers(spec, tokenizer, names, accelerator, devices, {**options, **window})
        if rank():
            return path
        facts: dict[str, Any] = {
            "model": {**asdict(model), **found.model},
            "settings": arguments,
            "device": found.device,
            "ranks": world_size(),
            **provenance([*_PACKAGES, *(["vllm"] if backend == "vllm" else [])]),
            "ended": now(),
            "seconds": round(found.seconds, 2),
        }
    evaluation = Evaluation(found.results, facts)
    evaluation.write(path)
    console().print(results_table(evaluation))
    for line in not_run(evaluation):
        print(line)
    return path


class _Found(NamedTuple):
    """What a backend found, in how many seconds, facts of the model that it asked, and the device that it ran on."""

    results: Mapping[str, TaskResult]
    seconds: float
    model: Mapping[str, Any]
    device: str


def _check_backend(backend: str, accelerator: str, devices: int | None, vllm: dict[str, Any] | None) -> None:
    """Refuse a backend that cannot run here, before any model is loaded."""
    if backend not in get_args(Backend):
        raise ConfigError(f"backend: {not_among(backend, get_args(Backend))}")
    require_at_least("devices", devices, 1, or_null=True)
    started = _started()
    if backend == "hf":
        if vllm:
            raise ConfigError(f"vllm: got {vllm}, but backend is hf; give --backend=vllm, or leave it out")
        if devices is not None and started not in (None, devices):
            raise ConfigError(f"devices: got {devices}, but torchrun started {started} processes; leave it out")
        return
    check_vllm(accelerator, devices or 1, vllm or {})
    if started is not None and started > 1:
        raise ConfigError(f"backend: vllm starts its own processes, but torchrun started {started}; give --devices")


def _by_transformers(
    spec: ModelSpec,
    tokenizer: PreTrainedTokenizerBase,
    tasks: list[str],
    accelerator: str,
    devices: int | None,
    options: Mapping[str, Any],
) -> _Found:
    fabric = _launch(accelerator, devices)
    subject = LiveReference(spec)
    subject.field = "model"
    subject.load(spec, fabric.device)
    start = time.perf_counter()
    results = run_tasks(subject.model, tokenizer, tasks, **options, shared=fabric.world_size > 1)
    seconds = time.perf_counter() - start
    facts = {"weights_hash": subject.weights_hash(), "parameters": subject.model.num_parameters()}
    return _Found(results, seconds, facts, str(subject.model.device))


def _by_vllm(
    spec: ModelSpec,
    tokenizer: PreTrainedTokenizerBase,
    units: list[Unit],
    arguments: dict[str, Any],
    options: Mapping[str, Any],
) -> _Found:
    from remit_lit.evaluation.vllm_model import WindowedVLLM

    lab = TaskResult(not_run="it reads whole distributions, which vLLM does not give; take the backend hf")
    subject = WindowedVLLM(arguments, tokenizer)
    start = time.perf_counter()
    results = ask(subject, units, lambda: lab, **options)
    return _Found(results, time.perf_counter() - start, {"fingerprint": spec.fingerprint()}, "cuda by vLLM")


def _launch(accelerator: str, devices: int | None) -> "Fabric":
    """The ranks, started here or by torchrun."""
    from lightning.fabric import Fabric  # as late as this, which takes seconds
    from lightning.fabric.strategies.ddp import DDPStrategy

    started = _started()
    on_node = (devices or 1) if started is None else int(os.environ["LOCAL_WORLD_SIZE"])
    nodes = 1 if started is None else started // on_node
    strategy: Any = DDPStrategy(timeout=_TIMEOUT) if on_node * nodes > 1 else "auto"
    fabric = Fabric(accelerator=accelerator, devices=on_node, num_nodes=nodes, strategy=strategy)
    fabric.launch()
    return fabric


def _started() -> int | None:
    """How many processes torchrun started; None where it did not start this one."""
    from torch.distributed import is_torchelastic_launched

    return int(os.environ["WORLD_SIZE"]) if is_torchelastic_launched() else None
