"""Half-precision weights with rates that they cannot follow are refused, before a model is loaded."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec
from remit_lit.posttraining.weight_precision import require_moving_weights
from tests.posttraining.conftest import training


@pytest.mark.parametrize(("dtype", "rate"), [("bfloat16", 1e-6), ("bfloat16", 2e-5), ("float16", 1e-6)])
def test_small_rates_of_half_precision_weights_are_refused(
    dtype: str, rate: float, run: Callable[..., Path], tiny_policy_dir: Path, no_weights: None
) -> None:
    model = ModelSpec(str(tiny_policy_dir), dtype=dtype)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"model\.dtype: got {dtype} with a training\.learning_rate of {rate:g}"):
        run(model=model, training=training(learning_rate=rate))


def test_other_rates_and_weights_train(run: Callable[..., Path], tiny_policy_dir: Path) -> None:
    run(model=ModelSpec(str(tiny_policy_dir), dtype="bfloat16"), training=training(learning_rate=1e-2))
    run(training=training(learning_rate=1e-6), overwrite=True)


def test_an_engine_with_float32_copies_may(
    run: Callable[..., Path], tiny_policy_dir: Path, no_weights: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(AssertionError, match="weights were loaded"):
        run(model=ModelSpec(str(tiny_policy_dir), dtype="bfloat16"), training=training(learning_rate=1e-6))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("factor", "moves"), [(0.9, False), (1.1, True)])
def test_the_least_rate_is_where_an_ordinary_weight_moves(dtype: torch.dtype, factor: float, moves: bool) -> None:
    # The message's figure, against additions in that dtype.
    model = ModelSpec("lab/base", dtype=str(dtype).removeprefix("torch."))  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as refused:
        require_moving_weights(model, training(learning_rate=1e-9))
    least = float(str(refused.value).split("steps below ")[1].split(",")[0])
    weight = torch.tensor(0.02).to(dtype)
    assert ((weight.float() + least * factor).to(dtype) != weight).item() is moves


def test_a_missing_liger_kernel_is_named(run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"training\.trl\.use_liger_kernel: .*pip install 'liger-kernel'"):
        run(training=training(trl={"use_liger_kernel": True}))
