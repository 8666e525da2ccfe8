"""The mean of several models' weights, as a model."""

import gc
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoTokenizer

from remit_lit.cli.dispatch import main
from remit_lit.errors import DataError
from remit_lit.jobs.job import Job
from remit_lit.models.average import average
from remit_lit.models.spec import ModelSpec
from tests.byte_level import byte_tokenizer
from tests.helpers import save_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three random models with tied embeddings."""
    directory = tmp_path_factory.mktemp("models")
    return [str(save_model(directory / f"model-{seed}", seed)) for seed in (1, 2, 3)]


def weights_of(directory: str | Path) -> dict[str, Tensor]:
    """All tensors in a model's files."""
    return {name: value for path in Path(directory).glob("*.safetensors") for name, value in load_file(path).items()}


def slow_mean(models: Sequence[str], weights: Sequence[float]) -> dict[str, np.ndarray]:
    """With numpy's longest floats, all models in memory."""
    total: dict[str, np.ndarray] = {}
    for model, weight in zip(models, weights, strict=True):
        for name, value in weights_of(model).items():
            term = weight * value.double().numpy().astype(np.longdouble)
            total[name] = total.get(name, np.longdouble(0)) + term
    return {name: value / np.longdouble(sum(weights)) for name, value in total.items()}


@pytest.mark.parametrize("weights", [None, [0.5, 0.3, 0.2], [1, 2, 4]])
def test_each_weight_is_the_weighted_mean(weights: list[float] | None, models: list[str], tmp_path: Path) -> None:
    given = [] if weights is None else [f"--weights={json.dumps(weights)}"]
    main(["average", f"--models={json.dumps(models)}", f"--output={tmp_path / 'soup'}", *given])
    found, expected = weights_of(tmp_path / "soup"), slow_mean(models, weights or [1, 1, 1])
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value.astype(np.float32), rtol=1.5e-7, atol=0, err_msg=name)


def test_the_average_is_a_model_with_tied_embeddings_and_the_tokenizer(models: list[str], tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(average(models, str(tmp_path / "soup")))
    assert "lm_head.weight" not in weights_of(tmp_path / "soup")
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    text = "Q:1A2C3=abc"
    ours, theirs = (AutoTokenizer.from_pretrained(path)(text).input_ids for path in (tmp_path / "soup", models[0]))
    assert ours == theirs
    ModelSpec(str(tmp_path / "soup")).load()


def test_the_record_says_what_went_in(models: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(models[1], run / "model")
    average([models[0], str(run)], str(tmp_path / "soup"), [3.0, 1.0])
    record = json.loads((tmp_path / "soup" / "average.json").read_text())
    assert [(part["path"], part["share"]) for part in record["models"]] == [(models[0], 0.75), (str(run), 0.25)]
    assert len({part["fingerprint"] for part in record["models"]}) == 2
    assert "safetensors" in record["versions"]
    assert str(run) in (tmp_path / "soup" / "README.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "soup"]


def test_a_job_keeps_an_average_and_knows_it_by_what_went_in(models: list[str], tmp_path: Path) -> None:
    job, other = (Job("soup", tmp_path, "average", fields={"models": given}) for given in (models[:2], models[1:]))
    assert job.key != other.key
    job.begin()
    main(job.arguments)
    job.end(None, seconds=1.0)
    assert job.state == "done" and (job.output / "model.safetensors").is_file()
    (job.output / "average.json").unlink()
    assert job.damage is not None


def in_dtype(model: str, directory: Path, dtype: torch.dtype) -> str:
    AutoModelForCausalLM.from_pretrained(model, dtype=dtype).save_pretrained(directory)
    AutoTokenizer.from_pretrained(model).save_pretrained(directory)
    return str(directory)


def test_halves_are_summed_in_more_than_halves(models: list[str], tmp_path: Path) -> None:
    halves = [in_dtype(model, tmp_path / f"half-{n}", torch.bfloat16) for n, model in enumerate(models)]
    expected = slow_mean(halves, [1, 1, 1])
    found = weights_of(average(halves, str(tmp_path / "soup")))
    name = "model.embed_tokens.weight"
    assert torch.equal(found[name], torch.from_numpy(expected[name].astype(np.float32)).bfloat16())
    states = [weights_of(half) for half in halves]
    assert not torch.equal(found[name], sum(state[name] / 3 for state in states))  # type: ignore[arg-type]
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "soup", dtype="auto").dtype == torch.bfloat16
    wide = weights_of(average(halves, str(tmp_path / "wide"), dtype="float32"))
    np.testing.assert_allclose(wide[name].numpy(), expected[name].astype(np.float32), rtol=1.5e-7)


def test_of_models_of_different_types_the_wider_one_is_kept(models: list[str], tmp_path: Path) -> None:
    half = in_dtype(models[0], tmp_path / "half", torch.bfloat16)
    average([half, models[1]], str(tmp_path / "soup"))
    assert {value.dtype for value in weights_of(tmp_path / "soup").values()} == {torch.float32}
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "soup", dtype="auto").dtype == torch.float32


@pytest.fixture(scope="module")
def in_shards(models: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The first model in several files."""
    directory = tmp_path_factory.mktemp("shards")
    AutoModelForCausalLM.from_pretrained(models[0]).save_pretrained(directory, max_shard_size="20KB")
    AutoTokenizer.from_pretrained(models[0]).save_pretrained(directory)
    assert len(list(directory.glob("*.safetensors"))) > 3
    return str(directory)


def test_models_may_lie_in_files_of_different_layouts(in_shards: str, models: list[str], tmp_path: Path) -> None:
    soup = average([in_shards, *models[1:]], str(tmp_path / "soup"))
    whole = average(models, str(tmp_path / "whole"))
    ours, theirs = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (soup, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert len(list(soup.glob("*.safetensors"))) > 3
    index = json.loads((soup / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in weights_of(soup).values())


class LiveTensors(TorchDispatchMode):
    """The most bytes of tensors that were alive when a tensor of one shape was added to another."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape, self.times, self.most = shape, 0, 0
        self.before = {id(value) for value in gc.get_objects() if isinstance(value, Tensor)}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.add_.Tensor and args[0].shape == self.shape:
            new = [v for v in gc.get_objects() if isinstance(v, Tensor) and id(v) not in self.before]
            self.times, self.most = self.times + 1, max(self.most, sum(value.nbytes for value in new))
        return func(*args, **(kwargs or {}))


def test_no_more_than_two_tensors_are_held_beside_the_file_that_is_made(
    in_shards: str, models: list[str], tmp_path: Path
) -> None:
    embedding = weights_of(in_shards)["model.embed_tokens.weight"]
    with LiveTensors(tuple(embedding.shape)) as live:
        average([in_shards, *models[1:]], str(tmp_path / "soup"))
    assert live.times >= 3
    assert live.most <= 20_000 + 3 * embedding.nbytes  # a file, the sum in float64, and the model's own


def changed(model: str, directory: Path, change: Callable[[dict[str, Tensor]], object]) -> str:
    """A copy of a model with other tensors."""
    shutil.copytree(model, directory)
    state = load_file(directory / "model.safetensors")
    change(state)
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    return str(directory)


@pytest.mark.fault("an average over weights that are not finite", "refused by file and tensor")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_named_with_its_file(value: float, models: list[str], tmp_path: Path) -> None:
    def spoil(state: dict[str, Tensor]) -> None:
        state["model.norm.weight"][3] = value

    broken = changed(models[1], tmp_path / "broken", spoil)
    with pytest.raises(DataError, match="NaN or infinite") as raised:
        average([models[0], broken], str(tmp_path / "soup"))
    assert f"{broken}/model.safetensors" in str(raised.value) and "model.norm.weight" in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_a_mean_that_the_type_cannot_hold_is_named(models: list[str], tmp_path: Path) -> None:
    def enlarge(state: dict[str, Tensor]) -> None:
        state["model.norm.weight"][3] = 1e6

    large = changed(models[1], tmp_path / "large", enlarge)
    with pytest.raises(DataError, match=r"dtype: torch.float16 cannot hold the mean of the tensor model\.norm\.weight"):
        average([models[0], large], str(tmp_path / "soup"), dtype="float16")
    assert not (tmp_path / "soup").exists()


@pytest.mark.fault("an average over a damaged file", "refused by name")
def test_a_damaged_file_is_named(models: list[str], tmp_path: Path) -> None:
    shutil.copytree(models[1], tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(DataError, match=f"{weights} is missing or damaged"):
        average([models[0], str(tmp_path / "cut")], str(tmp_path / "soup"))


@pytest.fixture
def others(models: list[str], tmp_path: Path) -> dict[str, str]:
    """Models that do not go with the first one, by name; that of BROKEN shows only where weights are read."""

    def spoil(state: dict[str, Tensor]) -> None:
        state["model.norm.weight"][0] = float("nan")

    deeper = save_model(tmp_path / "deeper", 2, num_hidden_layers=3)
    shutil.copytree(models[0], tmp_path / "copy")
    bare = tmp_path / "bare"
    shutil.copytree(models[0], bare, ignore=shutil.ignore_patterns("*.safetensors"))
    return {
        "A": models[0],
        "BROKEN": changed(models[1], tmp_path / "broken", spoil),
        "DEEPER": str(deeper),
        "UNTIED": str(save_model(tmp_path / "untied", 2, tie_word_embeddings=False)),
        "BYTES": str(save_model(tmp_path / "bytes", 2, tokenizer=byte_tokenizer())),
        "TORN": changed(models[1], tmp_path / "torn", lambda state: state.pop("model.norm.weight")),
        "COPY": str(tmp_path / "copy"),
        "BARE": str(bare),
        "EMPTY": str(tmp_path),
    }


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("--models=[A]", ["models: got ['", "give two or more"]),
        ("--models=[A,BROKEN] --weights=[1]", ["weights: got 1 for 2 models"]),
        ("--models=[A,BROKEN] --weights=[1,0]", ["weights: got 0", "above 0"]),
        ("--models=[A,BROKEN] --weights=[1,-0.5]", ["weights: got -0.5", "above 0"]),
        ("--models=[A,BROKEN] --weights=[1,.inf]", ["weights: got inf"]),
        ("--models=[A,BROKEN] --output=EMPTY", ["output: EMPTY exists"]),
        ("--models=[A,BROKEN,A]", ["models: A is the same model as A"]),
        ("--models=[A,BROKEN,COPY]", ["models: COPY is the same model as A"]),
        ("--models=[A,BROKEN,DEEPER]", ["models: A and DEEPER differ in their config", "num_hidden_layers is 2 and 3"]),
        ("--models=[A,BROKEN,UNTIED]", ["differ in their config", "tie_word_embeddings is True and False"]),
        ("--models=[A,BROKEN,BYTES]", ["models: BYTES: its tokenizer", "is not that of A"]),
        ("--models=[A,BROKEN,TORN]", ["A and TORN differ in their tensors", "model.norm.weight is (32,) and None"]),
        ("--models=[A,BROKEN,BARE]", ["models: BARE has no model.safetensors"]),
        ("--models=[A,BROKEN,EMPTY]", ["models: 'EMPTY' is neither", "`export` a checkpoint"]),
        ("--models=[A,BROKEN,lab/bas]", ["models: got 'lab/bas'", "did you mean lab/base?"]),
    ],
)  # fmt: skip
def test_what_has_no_mean_is_refused_before_weights_are_read(
    arguments: str,
    parts: list[str],
    others: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [_filled(argument, others) for argument in arguments.split()]
    output = [] if "--output" in arguments else [f"--output={tmp_path / 'soup'}"]
    with pytest.raises(SystemExit) as stopped:
        main(["average", *given, *output])
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    for part in parts:
        assert _filled(part, others) in said
    assert not (tmp_path / "soup").exists()


def _filled(text: str, others: dict[str, str]) -> str:
    """The text with the paths that its words in capitals stand for."""
    return re.sub(r"\b[A-Z]+\b", lambda found: others.get(found[0], found[0]), text)
