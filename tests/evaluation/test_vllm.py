"""The backend vLLM: the harness's own model of it, on a stand-in for vLLM, against the backend of transformers."""

import inspect
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from remit_lit.errors import ConfigError
from remit_lit.evaluation.evaluate import evaluate
from remit_lit.evaluation.results import Evaluation
from remit_lit.evaluation.vllm_backend import vllm_arguments
from remit_lit.evaluation.windowed_model import DoesNotFit, WindowedModel
from remit_lit.models.spec import ModelSpec
from tests.evaluation.vllm_stand_in import VERSION, install

TASKS = ["offline_mmlu", "offline_arc_challenge", "offline_gsm8k_bpb", "offline_triviaqa"]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


@pytest.mark.usefixtures("stand_in")
def test_both_backends_have_the_same_items_and_outcomes(cache: Path, byte_model_dir: Path, tmp_path: Path) -> None:
    # Contexts and the document are longer than the window, and are cut and split alike.
    (tmp_path / "mine.jsonl").write_text(json.dumps({"text": "Nothing ventured, nothing gained. " * 20}) + "\n")
    settings: dict[str, Any] = {"tasks": [*TASKS, str(tmp_path / "mine.jsonl")], "max_length": 60, "cache": str(cache)}
    found = {}
    for backend, accelerator in (("hf", "cpu"), ("vllm", "auto")):
        output = str(tmp_path / f"{backend}.json")
        options: dict[str, Any] = {**settings, "backend": backend, "accelerator": accelerator}
        found[backend] = Evaluation.read(evaluate(ModelSpec(str(byte_model_dir)), output=output, **options))
    hf, vllm = found["hf"], found["vllm"]
    assert hf.tasks.keys() == vllm.tasks.keys()
    for name, task in hf.tasks.items():
        other = vllm.tasks[name]
        assert task.items == other.items and task.not_run is None and other.not_run is None
        assert task.metrics.keys() == other.metrics.keys() and task.metrics
        for metric in task.metrics:
            expected = task.metrics[metric].outcomes
            np.testing.assert_allclose(other.metrics[metric].outcomes, expected, rtol=1e-4, err_msg=f"{name} {metric}")
        assert other.settings.get("truncated_contexts") == task.settings.get("truncated_contexts")
    assert hf.tasks["offline_gsm8k_bpb"].settings["truncated_contexts"] > 0
    assert vllm.facts["versions"]["vllm"] == VERSION and vllm.facts["settings"]["backend"] == "vllm"
    assert len(vllm.facts["model"]["fingerprint"]) == 64


@pytest.mark.usefixtures("stand_in")
def test_both_backends_write_the_same_answers(
    byte_model_dir: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    from remit_lit.evaluation.vllm_model import WindowedVLLM

    arguments = vllm_arguments(ModelSpec(str(byte_model_dir)), tokenizer, 40, 0, 1, {})
    backends = [WindowedModel(model, tokenizer, 2, 40), WindowedVLLM(arguments, tokenizer)]
    options: dict[str, Any] = {"until": ["e"], "max_gen_toks": 12, "do_sample": False}
    contexts = ["Who sang?", "A much longer question than the window of forty tokens holds: who?", "1 + 1 ="]
    answers = []
    for backend in backends:
        requests = [
            Instance("generate_until", {}, (text, dict(options)), number) for number, text in enumerate(contexts)
        ]
        answers.append(backend.generate_until(requests))
        assert backend.truncated == 1
        with pytest.raises(DoesNotFit, match="answers of 40 tokens do not fit in a window of 40"):
            backend.generate_until([Instance("generate_until", {}, ("Who?", {**options, "max_gen_toks": 40}), 0)])
    assert answers[0] == answers[1] and all(answers[0])


@pytest.mark.usefixtures("stand_in")
def test_the_harness_is_given_arguments_that_it_knows(byte_model_dir: Path) -> None:
    from remit_lit.evaluation.vllm_model import WindowedVLLM

    of_harness = get_model("vllm")
    assert issubclass(WindowedVLLM, of_harness)
    named = inspect.signature(of_harness.__init__).parameters
    spec = ModelSpec(str(byte_model_dir), revision="main", dtype="bfloat16")
    arguments = vllm_arguments(spec, None, None, 3, 2, {"tensor_parallel_size": 2})
    assert arguments.keys() <= named.keys()
    asked: dict[str, Any] = {
        "pretrained": str(byte_model_dir),
        "revision": "main",
        "tokenizer_revision": "main",
        "dtype": "bfloat16",
    }
    asked |= {"seed": 3, "data_parallel_size": 2, "tensor_parallel_size": 2, "max_length": None, "tokenizer": None}
    assert {name: arguments[name] for name in asked} == asked
    # Never more than the model has, which vLLM refuses.
    assert vllm_arguments(spec, None, 100, 0, 1, {})["max_length"] == 102
    assert vllm_arguments(spec, None, 511, 0, 1, {})["max_length"] == 512


@pytest.mark.usefixtures("stand_in")
def test_the_labs_test_is_not_run(tmp_path: Path) -> None:
    found = Evaluation.read(evaluate(ModelSpec("lab/base"), "lab", str(tmp_path / "a.json"), backend="vllm"))
    assert "take the backend hf" in str(found.tasks["lab"].not_run)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("gpus", "options", "message"),
    [
        (None, {}, r"backend: vllm is not installed; pip install 'remit_lit\[evaluation,vllm\]', or give hf"),
        (0, {}, r"backend: vllm needs 1 GPU\(s\), but this machine shows 0"),
        (1, {"vllm": {"tensor_parallel_size": 2}}, r"backend: vllm needs 2 GPU\(s\), but this machine shows 1"),
        (1, {"accelerator": "cpu"}, "backend: vllm needs a GPU, but accelerator is cpu"),
        (2, {"devices": 2}, "devices: got 2, but ray, by which vLLM runs replicas, is not installed"),
        (1, {"devices": 0}, "devices: got 0; give at least 1"),
        (1, {"vllm": {"seed": 1}}, "vllm.seed: follows from this command's own fields"),
        (1, {"vllm": {"max_model_len": 9}}, "vllm.max_model_len: follows from"),
        (None, {"backend": "hf", "vllm": {"quantization": "fp8"}}, "vllm: got .*, but backend is hf"),
        (None, {"backend": "vlm"}, "backend: got 'vlm'; did you mean vllm"),
    ],
)
def test_what_cannot_run_here_is_refused_before_a_model_is_loaded(
    gpus: int | None, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    if gpus is not None:
        install(monkeypatch, gpus)
    with pytest.raises(ConfigError, match=message):
        evaluate(ModelSpec("lab/base"), "lab", str(tmp_path / "a.json"), **{"backend": "vllm", **options})


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("hf", "devices: got 3, but torchrun started 2 processes; leave it out"),
        ("vllm", "backend: vllm starts its own processes, but torchrun started 2"),
    ],
)
def test_processes_that_torchrun_started_are_counted(
    backend: Any, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, gpus=3)
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: object())  # ray
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "GROUP_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        evaluate(ModelSpec("lab/base"), "lab", str(tmp_path / "a.json"), backend=backend, devices=3)
