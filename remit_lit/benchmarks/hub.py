"""A hub that does not answer is not waited for."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import huggingface_hub.constants
from huggingface_hub import get_session, is_offline_mode

_SECONDS = 3.0
_KEPT_SECONDS = 60.0
_silent_until: dict[str, float] = {}
"""By endpoint, until when a hub that did not answer is not asked again, by the monotonic clock."""


@contextmanager
def short_waits() -> Iterator[None]:
    """Within, a hub that does not answer in three seconds counts as absent; only cached data can be read then.

    Without this, libraries try for half a minute for each file.
    """
    if is_offline_mode() or _answers():
        yield
        return
    with ExitStack() as stack:
        # Each library has a flag of its own.
        stack.enter_context(patch.object(huggingface_hub.constants, "HF_HUB_OFFLINE", True))
        if "datasets" in sys.modules:
            stack.enter_context(patch.object(sys.modules["datasets"].config, "HF_HUB_OFFLINE", True))
        yield


def hub_note() -> str:
    """For a message on what was not found: that the hub did not answer; empty where it did or was not asked."""
    endpoint = huggingface_hub.constants.ENDPOINT
    return f"; the hub at {endpoint} does not answer" if endpoint in _silent_until else ""


def _answers() -> bool:
    endpoint = huggingface_hub.constants.ENDPOINT
    if time.monotonic() < _silent_until.get(endpoint, 0.0):
        return False
    _silent_until.pop(endpoint, None)
    try:
        response = get_session().head(endpoint, timeout=_SECONDS)
        answers = response is None or response.status_code < 500
    except Exception:  # each version of the library has errors of its own for a host that is not there
        answers = False
    if not answers:
        _silent_until[endpoint] = time.monotonic() + _KEPT_SECONDS
    return answers
