"""Two GPUs against one: the same losses and weights from DDP and every stage of ZeRO."""

import pytest
import torch

from tests.distributed.test_engines import ENGINES, Parity
from tests.processes import furthest

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def parity(accelerator, tmp_path_factory, tiny_rows_split, tiny_policy_dir, tiny_reference_dir) -> Parity:
    if accelerator == "gpu" and torch.cuda.device_count() < 2:
        pytest.skip("one GPU here")
    directory = tmp_path_factory.mktemp("parity")
    return Parity(directory, tiny_rows_split, tiny_policy_dir, tiny_reference_dir, accelerator)


@pytest.mark.parametrize("engine_name", ENGINES)
def test_two_gpus_train_as_one(parity, engine_name):
    run, alone = (parity.run(name, "remit", "sgd", 2) for name in (engine_name, "auto"))
    assert run.losses == pytest.approx(alone.losses, rel=1e-4)
    assert furthest(run.weights, alone.weights) < 1e-4
