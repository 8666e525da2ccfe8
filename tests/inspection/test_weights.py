"""The numbers of a page are those of training on the same batch."""

import csv
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from transformers import AutoModelForCausalLM

from remit_lit.cli.dispatch import main
from remit_lit.inspection.inspect import inspect
from remit_lit.inspection.settings import InspectSettings, TrainerFields
from remit_lit.models.spec import ModelSpec
from remit_lit.reference.reference import CachedReference, InitialPolicy, LiveReference
from remit_lit.reference.score import score
from remit_lit.training.distillation import Distillation
from remit_lit.weighting import MiniPLM, NextTokenPrediction, ReMiT, Rho1, TokenSignals, TokenWeighting
from tests.columns import slow_nll
from tests.helpers import build, fit
from tests.inspection.reading import Shown, read_page

ROWS = 4


def show(
    rows: Path,
    policy: Path,
    folder: Path,
    weighting: TokenWeighting,
    trainer: TrainerFields | None = None,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> Shown:
    """The page of one strategy with a run's options, ``ROWS`` rows of training."""
    run, data = build(rows, policy, folder, weighting=weighting, **options)
    output = {"output": str(folder / "page.html"), "num_rows": ROWS, "overwrite": True, **(settings or {})}
    cpu = trainer or TrainerFields(accelerator="cpu", accumulate_grad_batches=options.get("accumulate", 1))
    return read_page(inspect({"shown": run.module}, data, InspectSettings(**output), cpu))


def live(directory: Path) -> LiveReference:
    return LiveReference(ModelSpec(str(directory)))


ALIKE: dict[str, TokenWeighting] = {
    "remit": ReMiT(),
    "segment": ReMiT(center="segment", epsilon=0.4),
    "standardized": ReMiT(center="standardized"),
    "not-detached": ReMiT(detach=False),
    "rho1": Rho1(),
    "rho1-row": Rho1(scope="row"),
    "ntp": NextTokenPrediction(),
}


@pytest.fixture(scope="module")
def alike(
    tmp_path_factory: pytest.TempPathFactory, tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path
) -> Shown:
    """The page of strategies that differ in nothing else."""
    folder, strategies = tmp_path_factory.mktemp("alike"), {}
    for name, weighting in ALIKE.items():
        options: dict[str, Any] = {"weighting": weighting, "reference": live(tiny_reference_dir)}
        run, data = build(tiny_rows_split, tiny_policy_dir, folder, batch_size=ROWS, **options)
        strategies[name] = run.module
    settings = InspectSettings(str(folder / "page.html"), num_rows=ROWS)
    return read_page(inspect(strategies, data, settings, TrainerFields("cpu")))


@pytest.mark.parametrize("name", ALIKE)
def test_the_weights_are_those_of_the_first_step(
    name: str, alike: Shown, tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"weighting": ALIKE[name], "reference": live(tiny_reference_dir), "batch_size": ROWS}
    run = fit(tiny_rows_split, tiny_policy_dir, tmp_path, steps=1, **options)
    trained = run.recorder.weights[0].numpy()
    assert alike.data["numbers"] == run.recorder.rows[0]
    assert np.array_equal(alike.weights(list(ALIKE).index(name)), trained)


@pytest.mark.parametrize(
    ("weighting", "options"),
    [
        (ReMiT(delta="reference"), {"neutral_tokens": False}),
        (ReMiT(), {"document_attention": False}),
        (ReMiT(), {"base": True}),
        (Rho1(scope="step"), {"accumulate": 2, "batch_size": 2}),
    ],
    ids=["all-tokens", "whole-rows", "base", "step"],
)
def test_so_they_are_under_other_settings(
    weighting: TokenWeighting,
    options: dict[str, Any],
    tiny_rows_split: Path,
    tiny_policy_dir: Path,
    tiny_reference_dir: Path,
    tmp_path: Path,
) -> None:
    given = {"batch_size": ROWS, **options, "reference": live(tiny_reference_dir)}
    if "base" in options:
        given["base"] = InitialPolicy()
    page = show(tiny_rows_split, tiny_policy_dir, tmp_path, weighting, **given)
    run = fit(tiny_rows_split, tiny_policy_dir, tmp_path, weighting=weighting, steps=1, **given)
    assert page.data["numbers"] == run.recorder.rows[0]
    trained = run.recorder.weights[0].numpy()  # of the last micro-batch of the step
    assert np.array_equal(page.weights()[-len(trained) :], trained)
    assert trained.std() > 0.05


def test_remits_numbers_are_those_of_its_equations(
    tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"reference": live(tiny_reference_dir), "neutral_tokens": False}
    page = show(tiny_rows_split, tiny_policy_dir, tmp_path, ReMiT(epsilon=0.3), **options)
    models = [AutoModelForCausalLM.from_pretrained(path) for path in (tiny_policy_dir, tiny_reference_dir)]
    stored = datasets.load_from_disk(str(tiny_rows_split / "train")).with_format("numpy")
    (strategy,) = page.data["strategies"]
    (weighed,) = strategy["weighed"]
    places = (page.data["policies"][0]["nll"], page.data["references"][0]["nll"])
    for row, number in enumerate(page.data["numbers"]):
        nlls = [slow_nll(model, stored[number], True) for model in models]
        counted = np.array([value is not None for value in nlls[0]])
        policy, reference = (np.array([value or 0.0 for value in values]) for values in nlls)
        for place, expected in zip(places, (policy, reference), strict=True):
            assert page.predicted(place)[row] == pytest.approx(expected, abs=1e-5)
        centred = (policy - reference) - (policy - reference)[counted].mean()
        weights = np.clip(2 / (1 + np.exp(-centred)), 0.7, 1.3) * counted
        assert page.weights()[row] == pytest.approx(weights, abs=1e-5)
        assert page.predicted(weighed["centered"])[row][counted] == pytest.approx(centred[counted], abs=1e-5)
        assert np.array_equal(page.predicted(page.data["counted"])[row], counted)
    assert strategy["bounds"] == pytest.approx([0.7, 1.3])


def test_a_column_gives_the_weights_of_its_model(
    rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    score(str(rows), ModelSpec(str(tiny_reference_dir)), "nll_rl", dtype="float32", accelerator="cpu")
    pages = [
        show(rows, tiny_policy_dir, tmp_path, ReMiT(), reference=reference)
        for reference in (CachedReference("nll_rl"), live(tiny_reference_dir))
    ]
    assert pages[0].weights() == pytest.approx(pages[1].weights(), abs=1e-5)
    assert pages[0].data["references"][0]["name"] == "column nll_rl"


def test_rows_of_all_ranks_are_weighed_together(
    tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"reference": live(tiny_reference_dir), "weighting": Rho1()}
    two = TrainerFields(accelerator="cpu", devices=2)
    spread = show(tiny_rows_split, tiny_policy_dir, tmp_path, trainer=two, batch_size=2, **options)
    alone = show(tiny_rows_split, tiny_policy_dir, tmp_path, batch_size=4, **options)
    apart = show(tiny_rows_split, tiny_policy_dir, tmp_path, batch_size=2, **options)
    assert np.array_equal(spread.weights(), alone.weights())
    assert not np.array_equal(apart.weights(), alone.weights())


def test_a_row_within_a_batch_weighs_as_the_whole_batch_says(
    tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"reference": live(tiny_reference_dir), "weighting": Rho1(), "batch_size": 4}
    whole = show(tiny_rows_split, tiny_policy_dir, tmp_path, settings={"num_rows": 8}, **options)
    some = show(tiny_rows_split, tiny_policy_dir, tmp_path, settings={"first_row": 3, "num_rows": 2}, **options)
    assert some.data["numbers"] == whole.data["numbers"][3:5]
    assert np.array_equal(some.weights(), whole.weights()[3:5])


def test_validation_rows_are_shown_in_the_order_of_the_file(
    tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    chosen = {"split": "validation", "first_row": 1, "num_rows": 3}
    page = show(tiny_rows_split, tiny_policy_dir, tmp_path, ReMiT(), None, chosen, reference=live(tiny_reference_dir))
    stored = datasets.load_from_disk(str(tiny_rows_split / "validation"))
    vocabulary = np.array(page.data["vocabulary"]["id"])
    assert page.data["numbers"] == [1, 2, 3]
    assert np.array_equal(
        vocabulary[page.array(page.data["tokens"])], np.stack([stored[i]["input_ids"] for i in (1, 2, 3)])
    )


def test_neutral_tokens_are_marked(
    tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    page = show(tiny_rows_split, tiny_policy_dir, tmp_path, ReMiT(), reference=live(tiny_reference_dir))
    ids = np.array(page.data["vocabulary"]["id"])[page.array(page.data["tokens"])]
    neutral = page.array(page.data["strategies"][0]["neutral"])
    assert np.array_equal(neutral == 1, np.isin(ids, [0, 1]) & (page.array(page.data["counted"]) == 1))
    assert neutral.any() and (page.array(page.data["strategies"][0]["weighed"][0]["weights"])[neutral == 1] == 1).all()


@pytest.mark.parametrize(
    ("weighting", "options", "note"),
    [
        (MiniPLM(), {}, "chooses whole rows"),
        (NextTokenPrediction(), {"distillation": Distillation(alpha=0.25)}, "alpha 0.25"),
        (ReMiT(), {"neutral_tokens": False}, "no token is neutral"),
        (ReMiT(), {"base": InitialPolicy()}, "compared with the initial policy"),
    ],
)
def test_what_no_weight_shows_is_said(
    weighting: TokenWeighting,
    options: dict[str, Any],
    note: str,
    tiny_rows_split: Path,
    tiny_policy_dir: Path,
    tiny_reference_dir: Path,
    tmp_path: Path,
) -> None:
    options = {**options, "reference": live(tiny_reference_dir)}
    page = show(tiny_rows_split, tiny_policy_dir, tmp_path, weighting, **options)
    (said,) = page.data["strategies"][0]["notes"]
    assert note in said


class Faulty(TokenWeighting):
    def weights(self, signals: TokenSignals) -> torch.Tensor:
        return signals.mask.float() - 2.0


def test_faulty_weights_are_refused(tiny_rows_split: Path, tiny_policy_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.weighting: Faulty gave weights that are negative"):
        show(tiny_rows_split, tiny_policy_dir, tmp_path, Faulty())
    assert not (tmp_path / "page.html").exists()


def test_overlays_are_laid_over_the_config(
    tiny_rows_split: Path, tiny_policy_dir: Path, tiny_reference_dir: Path, tmp_path: Path
) -> None:
    overlays = ["baselines/remit", "experiments/ablations/unclipped.yaml", "baselines/rho1"]
    arguments = [
        f"--data.rows={tiny_rows_split}",
        f"--model.policy.path={tiny_policy_dir}",
        "--model.reference=LiveReference",
        f"--model.reference.model.path={tiny_reference_dir}",
        "--trainer.accelerator=cpu",
        f"--output={tmp_path / 'page.html'}",
    ]
    main(["inspect", *arguments, f"--strategies=[{','.join(overlays)}]", "--num_rows=4", "--data.batch_size=4"])
    page = read_page(tmp_path / "page.html")
    assert [strategy["name"] for strategy in page.data["strategies"]] == ["remit", "unclipped", "rho1"]
    reference = live(tiny_reference_dir)
    for index, weighting in enumerate((ReMiT(), ReMiT(clip=False), Rho1())):
        alone = show(tiny_rows_split, tiny_policy_dir, tmp_path, weighting, reference=reference, batch_size=4)
        assert np.array_equal(page.weights(index), alone.weights())


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, tiny_rows: Path, tiny_policy_dir: Path, tiny_reference_dir: Path
) -> Path:
    """The folder of a ReMiT run of 3 steps with a checkpoint after each, beside its config."""
    directory = tmp_path_factory.mktemp("inspected")
    config = {
        "model": {
            "policy": {"path": str(tiny_policy_dir)},
            "weighting": {"class_path": "ReMiT"},
            "reference": {"class_path": "LiveReference", "init_args": {"model": {"path": str(tiny_reference_dir)}}},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
            "horizon": {"steps": 3},
        },
        "data": {"rows": str(tiny_rows), "batch_size": 2, "num_workers": 0},
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "enable_progress_bar": False,
            "log_every_n_steps": 1,
            "limit_val_batches": 0,
        },
        "checkpoint": {"every_n_train_steps": 1, "keep_last": None},
        "run_dir": str(directory / "run"),
    }
    (directory / "remit.yaml").write_text(yaml.safe_dump(config))
    main(["fit", "--config", str(directory / "remit.yaml")])
    return directory / "run"


def test_the_config_that_a_run_saved_can_be_given_as_it_is(trained: Path, tmp_path: Path) -> None:
    """It has every field of `fit`, those too that no weight depends on."""
    output = tmp_path / "page.html"
    main(["inspect", f"--config={trained / 'config.yaml'}", f"--output={output}", "--num_rows=2"])
    assert [strategy["name"] for strategy in read_page(output).data["strategies"]] == ["ReMiT"]


def test_each_checkpoint_gives_the_weights_that_the_run_logged_next(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "page.html"
    config = f"--config={trained.parent / 'remit.yaml'}"
    main(["inspect", config, f"--policies=[{trained}]", f"--output={output}", "--num_rows=6"])
    assert f"inspect: {output}" in capsys.readouterr().out
    page = read_page(output)
    assert [policy["name"] for policy in page.data["policies"][1:]] == [f"{trained}, step {step}" for step in (1, 2, 3)]
    with open(trained / "metrics.csv", newline="") as stream:
        logged = [row for row in csv.DictReader(stream) if row["weights/mean"]]
    low, high = page.data["strategies"][0]["bounds"]
    for step, line in enumerate(logged):
        rows = slice(2 * step, 2 * step + 2)
        weights = page.weights(policy=step)[rows]
        counted = page.predicted(page.data["counted"])[rows] == 1
        ranked = counted & (page.predicted(page.data["strategies"][0]["neutral"])[rows] == 0)
        assert weights[counted].mean() == pytest.approx(float(line["weights/mean"]), abs=1e-5)
        assert (weights[ranked] <= low).mean() == pytest.approx(float(line["weights/clipped_low"]), abs=1e-6)
        assert (weights[ranked] >= high).mean() == pytest.approx(float(line["weights/clipped_high"]), abs=1e-6)
    assert len(logged) == 3
