"""A hub that cannot be reached is not waited for."""

import time
from types import SimpleNamespace
from typing import Any

import datasets.config
import huggingface_hub.constants
import pytest
from huggingface_hub import is_offline_mode

from remit_lit.benchmarks.hub import short_waits


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)


def test_a_hub_that_is_not_there_is_given_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with short_waits():
        assert is_offline_mode() and datasets.config.HF_HUB_OFFLINE
        start = time.monotonic()
        with pytest.raises(ConnectionError):
            datasets.load_dataset("openai/gsm8k", "main")
        assert time.monotonic() - start < 3
    assert not is_offline_mode() and not datasets.config.HF_HUB_OFFLINE


def test_a_hub_that_answers_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    session = SimpleNamespace(head=lambda url, timeout: asked.append((url, timeout)))
    monkeypatch.setattr("remit_lit.benchmarks.hub.get_session", lambda: session)
    with short_waits():
        assert not is_offline_mode()
    assert asked == [(huggingface_hub.constants.ENDPOINT, 3.0)]
