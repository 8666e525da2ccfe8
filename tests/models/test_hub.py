"""A hub that fails is asked once, and what was not found says so."""

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from remit_lit.errors import ConfigError
from remit_lit.models.spec import ModelSpec
from remit_lit.models.tokenization import load_tokenizer


class Overloaded(BaseHTTPRequestHandler):
    """Answers every request with 503, and counts them."""

    asked: list[str]

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        self.send_response(503)
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes another server the hub."""

    def use(endpoint: str) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        monkeypatch.setattr("remit_lit.benchmarks.hub._silent_until", {})

    return use


@pytest.fixture
def overloaded(hub: Callable[[str], None]) -> Iterator[list[str]]:
    """The requests to a hub that answers each with 503."""
    asked: list[str] = []
    handler = type("Handler", (Overloaded,), {"asked": asked})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub(f"http://127.0.0.1:{server.server_port}")
        yield asked
        server.shutdown()


@pytest.fixture
def silent(hub: Callable[[str], None]) -> Iterator[socket.socket]:
    """A hub that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        hub(f"http://127.0.0.1:{server.getsockname()[1]}")
        yield server


def test_a_hub_that_is_overloaded_is_asked_once(overloaded: list[str]) -> None:
    for _ in range(2):
        with pytest.raises(
            ConfigError, match=r"policy: owner/none is not a model .* hub at http://127\S* does not answer"
        ):
            ModelSpec("owner/none").load_config("policy")
        with pytest.raises(
            ConfigError, match=r"tokenizer: no tokenizer at 'owner/none'; the hub at .* does not answer"
        ):
            load_tokenizer("owner/none")
    assert len(overloaded) == 1


def test_a_hub_that_never_answers_is_asked_once(silent: socket.socket) -> None:
    for _ in range(3):
        with pytest.raises(ConfigError, match="does not answer"):
            ModelSpec("owner/none").load_config("policy")
    silent.settimeout(1)
    silent.accept()
    with pytest.raises(TimeoutError):
        silent.accept()


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("./modle", "model"),
        ("modle/", "model"),
        ("model/last.chekpoint", "model/last.checkpoint"),
        ("m.safetensors", ""),
    ],
)
def test_a_path_where_nothing_is_never_reaches_a_hub(
    path: str, near: str, overloaded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model" / "last.checkpoint").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for read in (lambda: ModelSpec(path).load("policy"), lambda: load_tokenizer(path)):
        with pytest.raises(ConfigError, match=rf"(policy\.path|tokenizer): .*{f'did you mean {near}' if near else ''}"):
            read()
    assert overloaded == []
