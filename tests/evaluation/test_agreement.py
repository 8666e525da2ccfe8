"""KL and top-1 agreement against whole logits, torch.distributions, and models that are known to agree or not."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from jsonargparse import ArgumentParser
from torch.distributions import Categorical, kl_divergence
from transformers import AutoModelForCausalLM

from remit_lit.data.batch import Batch
from remit_lit.data.rows import PackedRows
from remit_lit.errors import ConfigError, NonFiniteError
from remit_lit.evaluation.agreement import agreement, token_agreement
from remit_lit.evaluation.log_ratios import LogRatios
from remit_lit.evaluation.results import Evaluation
from remit_lit.lab.tokenizer import build_tokenizer
from remit_lit.models.spec import ModelSpec
from remit_lit.training.callbacks.export_model import ExportModel
from remit_lit.training.callbacks.run_record import RunRecord
from tests.helpers import VOCAB, Largest, fit, get_batch, llama_config, save_model


def run(rows: Path, reference: Path, model: Path, output: Path, **options: Any) -> Evaluation:
    specs = ModelSpec(str(reference)), ModelSpec(str(model))
    return Evaluation.read(agreement(str(rows), *specs, str(output), accelerator="cpu", **options))


def distributions(directory: Path, batch: Batch) -> Categorical:
    """Of every position by whole logits in float64, [batch, time]."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float64)
    with torch.no_grad():
        output = model(**batch.inputs, use_cache=False)
    return Categorical(logits=output.logits)


@pytest.mark.parametrize("document_attention", [True, False])
def test_the_figures_are_those_of_whole_logits(
    document_attention: bool, tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    options = {"document_attention": document_attention, "batch_size": 3}
    found = run(tiny_rows_split, tiny_reference_dir, tiny_policy_dir, tmp_path / "out.json", **options)
    task = found.tasks["agreement"]
    number = len(PackedRows(tiny_rows_split / "validation"))
    batch = get_batch(tiny_rows_split, range(number), split="validation", document_attention=document_attention)
    p, q = (distributions(path, batch) for path in (tiny_reference_dir, tiny_policy_dir))
    mask = batch.mask
    kl = torch.where(mask, kl_divergence(p, q), 0)
    same = mask & (p.probs.argmax(-1) == q.probs.argmax(-1))
    tokens = mask.sum(1).double()
    assert (tokens.unique().numel() > 1) == document_attention
    assert task.items == tuple(f"row {row}" for row in range(number))
    np.testing.assert_array_equal(task.metrics["kl"].weights, tokens)
    np.testing.assert_allclose(task.metrics["kl"].outcomes, kl.sum(1) / tokens, rtol=1e-5)
    np.testing.assert_allclose(task.metrics["top1_agreement"].outcomes, same.sum(1) / tokens, rtol=1e-12)
    assert task.metrics["kl"].value == pytest.approx((kl.sum() / mask.sum()).item(), rel=1e-5)
    assert task.metrics["kl"].value > 0.1  # the models differ
    assert 0 < task.metrics["top1_agreement"].value < 1

    targets = batch.targets.clamp(min=0)
    ratios = (p.log_prob(targets) - q.log_prob(targets))[mask].numpy()
    histogram = task.histograms["log_ratio"]
    assert (histogram.mean, histogram.sd) == pytest.approx((ratios.mean(), ratios.std()), rel=1e-4, abs=1e-6)
    # float32 may carry a token that lies at the edge of its bin over to the next.
    at_an_edge = sum(abs(ratio / 0.05 - round(ratio / 0.05)) < 1e-3 for ratio in ratios)
    assert histogram.counts.sum() == len(ratios)
    assert np.abs(histogram.counts - counted_one_by_one(ratios)).sum() <= 2 * at_an_edge < len(ratios) / 10


def counted_one_by_one(ratios: Iterable[float]) -> list[int]:
    """Tokens in each of 400 bins from -10 to 10 nats, and those beyond in the first and the last."""
    counts = [0] * 400
    for ratio in ratios:
        place = 0
        while place < 399 and ratio >= -10 + (place + 1) / 20:
            place += 1
        counts[place] += 1
    return counts


def test_log_ratios_are_counted_in_fixed_bins() -> None:
    """Over batches as all at once; what lies beyond the ends is in the outermost bins."""
    ratios = [-30.0, -10.0, -9.96, -0.06, -0.01, 0.0, 0.04, 0.06, 0.06, 3.32, 9.99, 10.0, 11.5]
    counted = LogRatios()
    for part in (ratios[:5], [], ratios[5:]):
        counted.add(np.array(part))
    found = counted.histogram()
    assert (found.low, found.high) == (-10.0, 10.0)
    assert found.counts.tolist() == counted_one_by_one(ratios)
    assert (found.mean, found.sd) == pytest.approx((np.mean(ratios), np.std(ratios)))
    assert LogRatios().histogram().sd == 0.0


def test_a_model_agrees_with_itself(tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path) -> None:
    task = run(tiny_rows_split, tiny_policy_dir, tiny_policy_dir, tmp_path / "out.json").tasks["agreement"]
    assert (task.metrics["kl"].value, task.metrics["top1_agreement"].value) == (0.0, 1.0)
    assert task.histograms["log_ratio"].sd == 0.0 and np.count_nonzero(task.histograms["log_ratio"].counts) == 1


def test_the_direction_is_from_the_reference(
    tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    one = run(tiny_rows_split, tiny_reference_dir, tiny_policy_dir, tmp_path / "one.json").tasks["agreement"]
    other = run(tiny_rows_split, tiny_policy_dir, tiny_reference_dir, tmp_path / "other.json").tasks["agreement"]
    assert one.metrics["kl"].value != pytest.approx(other.metrics["kl"].value, rel=1e-3)
    assert one.metrics["top1_agreement"].value == other.metrics["top1_agreement"].value


def test_no_chunk_changes_a_figure_and_none_holds_all_logits(tiny_rows_split: Path, tmp_path: Path) -> None:
    models = [ModelSpec(str(save_model(tmp_path / str(s), s, vocab_size=4096))).load() for s in (1, 2)]
    batch = get_batch(tiny_rows_split, range(20))
    logits = int(batch.mask.sum()) * 4096
    with Largest() as whole:
        expected = token_agreement(models[0], models[1], batch.inputs, batch.targets, chunk_tokens=10**6)
    with Largest() as small:
        found = token_agreement(models[0], models[1], batch.inputs, batch.targets, chunk_tokens=7)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert whole.elements >= logits > 10 * small.elements


def test_the_first_rows_of_another_split(
    tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    paths = tiny_rows_split, tiny_reference_dir, tiny_policy_dir
    whole = run(*paths, tmp_path / "whole.json", split="train")
    part = run(*paths, tmp_path / "part.json", split="train", limit=5, batch_size=2)
    kl = whole.tasks["agreement"].metrics["kl"].outcomes
    assert len(kl) > 5
    np.testing.assert_allclose(part.tasks["agreement"].metrics["kl"].outcomes, kl[:5], rtol=1e-5)
    manifest = json.loads((tiny_rows_split / "manifest.json").read_text())
    assert part.tasks["agreement"].settings["rows"] == manifest["fingerprints"]["train"]
    assert part.facts["settings"]["limit"] == 5 and part.facts["model"] == whole.facts["model"]
    assert part.facts["model"]["weights_hash"] != part.facts["reference"]["weights_hash"]


def test_a_run_folder_stands_for_its_model(
    tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    fit(tiny_rows_split, tiny_policy_dir, tmp_path / "run", steps=2, callbacks=[RunRecord(), ExportModel()])
    runs = (tmp_path / "run", tmp_path / "run" / "model", tiny_policy_dir)
    found = [
        run(tiny_rows_split, tiny_reference_dir, path, tmp_path / f"{number}.json")
        .tasks["agreement"]
        .metrics["kl"]
        .value
        for number, path in enumerate(runs)
    ]
    assert found[0] == found[1] != found[2]


def test_an_output_is_replaced_only_if_asked(
    tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "out.json").write_text("mine")
    with pytest.raises(ConfigError, match=r"output: .*out.json exists"):
        run(tiny_rows_split, tiny_reference_dir, tiny_policy_dir, tmp_path / "out.json")
    assert (tmp_path / "out.json").read_text() == "mine"
    found = run(tiny_rows_split, tiny_reference_dir, tiny_policy_dir, tmp_path / "out.json", limit=1, overwrite=True)
    assert len(found.tasks["agreement"].items) == 1


def test_vocabularies_of_two_sizes_are_refused(
    tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path, request: Any
) -> None:
    padded = save_model(tmp_path / "padded", 3, vocab_size=VOCAB + 32)
    request.getfixturevalue("no_weights")
    with pytest.raises(ConfigError, match=r"model: its vocabulary has 64 tokens .* the reference's has 32"):
        run(tiny_rows_split, tiny_policy_dir, padded, tmp_path / "out.json")


@pytest.mark.parametrize("field", ["reference", "model"])
def test_another_tokenizer_is_refused_by_field(
    field: str, tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path, request: Any
) -> None:
    other = Path(shutil.copytree(tiny_policy_dir, tmp_path / "other"))
    content = json.loads((other / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (other / "tokenizer.json").write_text(json.dumps(content))
    request.getfixturevalue("no_weights")
    paths = {"reference": tiny_policy_dir, "model": tiny_policy_dir, field: other}
    with pytest.raises(ConfigError, match=f"{field}: its tokenizer .* is not that of the rows"):
        run(tiny_rows_split, paths["reference"], paths["model"], tmp_path / "out.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "limit: got 0"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"split": "test"}, "split: got 'test'"),
    ],
)
def test_bad_arguments_are_refused_by_name(
    options: dict[str, Any], message: str, tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path, request: Any
) -> None:
    request.getfixturevalue("no_weights")
    with pytest.raises(ConfigError, match=message):
        run(tiny_rows_split, tiny_policy_dir, tiny_policy_dir, tmp_path / "out.json", **options)


def test_neither_a_path_nor_a_config_is_refused(tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reference: give either path"):
        agreement(str(tiny_rows_split), ModelSpec(), ModelSpec(str(tiny_policy_dir)), str(tmp_path / "out.json"))


def test_broken_logits_name_their_rows(tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_policy_dir)
    with torch.no_grad():
        model.model.norm.weight[0] = torch.nan
    broken = tmp_path / "broken"
    model.save_pretrained(broken)
    build_tokenizer().save_pretrained(broken)
    with pytest.raises(NonFiniteError, match=r"KL of row\(s\) \[0, 1\] is NaN"):
        run(tiny_rows_split, tiny_policy_dir, broken, tmp_path / "out.json", batch_size=2)


def test_a_config_file_gives_both_models(
    tiny_rows_split: Path,
    tiny_policy_dir: Path,
    tiny_reference_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = {
        "rows": str(tiny_rows_split),
        "reference": {"path": str(tiny_reference_dir)},
        "model": {
            "config": {**llama_config().to_diff_dict(), "model_type": "llama"},
            "tokenizer": str(tiny_policy_dir),
        },
        "output": str(tmp_path / "out.json"),
    }
    (tmp_path / "agreement.yaml").write_text(yaml.safe_dump(config))
    parser = ArgumentParser(parser_mode="omegaconf")
    parser.add_argument("--config", action="config")
    parser.add_function_arguments(agreement)
    values = parser.parse_args(
        [
            f"--config={tmp_path / 'agreement.yaml'}",
            f"--model.path={tiny_policy_dir}",
            "--model.config=null",
            "--limit=2",
        ]
    )
    arguments = parser.instantiate_classes(values).as_dict()
    arguments.pop("config")
    path = agreement(**arguments)
    found = Evaluation.read(path)
    assert found.facts["model"]["path"] == str(tiny_policy_dir)
    printed = capsys.readouterr().out
    assert f"{found.tasks['agreement'].metrics['kl'].value:.4f}" in printed
    assert f"reference: {tiny_reference_dir}" in printed
