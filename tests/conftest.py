"""Models, tokenizers and rows for all tests.

The libraries are imported by the fixtures: pytest-xdist's first process, which the others wait for, needs none of them.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.warm import start_server

pytest_plugins = ["tests.faults.matrix"]

# The models are tiny: threads that wait for each other would take most of the time, here and in processes of our own.
os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@pytest.fixture(scope="session")
def warm_jobs() -> None:
    """Jobs of any verb find its libraries imported."""
    start_server()


@pytest.fixture(scope="session")
def tiny_tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lab's tokenizer alone."""
    from remit_lit.lab.tokenizer import build_tokenizer

    directory = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def byte_tokenizer_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.byte_level import byte_tokenizer

    directory = tmp_path_factory.mktemp("byte-tokenizer")
    byte_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_policy_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with tied embeddings and the lab's tokenizer."""
    from tests.helpers import save_model

    return save_model(tmp_path_factory.mktemp("policy"), seed=1)


@pytest.fixture(scope="session")
def tiny_reference_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another random Llama with the same tokenizer."""
    from tests.helpers import save_model

    return save_model(tmp_path_factory.mktemp("reference"), seed=2)


@pytest.fixture(scope="session")
def tiny_rows(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_dir: Path) -> Path:
    """Rows of 132 tokens: exactly four documents each."""
    from tests.helpers import TIME, make_rows

    return make_rows(tmp_path_factory.mktemp("rows") / "whole", tiny_tokenizer_dir, TIME)


@pytest.fixture(scope="session")
def tiny_rows_split(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_dir: Path) -> Path:
    """Rows of 50 tokens, which cut documents, so that rows count different numbers of tokens."""
    from tests.helpers import make_rows

    return make_rows(tmp_path_factory.mktemp("rows") / "split", tiny_tokenizer_dir, 50)


@pytest.fixture
def rows(tiny_rows: Path, tmp_path: Path) -> Path:
    """Rows of one's own, to add columns to."""
    shutil.copytree(tiny_rows, tmp_path / "rows", ignore=shutil.ignore_patterns("columns"))
    return tmp_path / "rows"


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading or making any model fails the test."""
    from transformers import AutoModelForCausalLM

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)
    monkeypatch.setattr(AutoModelForCausalLM, "from_config", refuse)
