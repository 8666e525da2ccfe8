"""The bar of a real run on a terminal of 80 columns, as its user sees it."""

import fcntl
import os
import re
import struct
import termios
import threading
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import TQDMProgressBar

from remit_lit.training.callbacks.step_bar import StepBar, with_step_bar
from tests.processes import SECONDS, Run, short_run
from tests.warm import WarmProcess

COLUMNS, STEPS, ACCUMULATE = 80, 4, 2


class Terminal:
    """One end of a terminal of 80 columns, and what was written to the other."""

    def __init__(self) -> None:
        self._end, self.other = os.openpty()
        self.path, self._written = Path(os.ttyname(self.other)), bytearray()
        fcntl.ioctl(self.other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._end, 65536):
                self._written += data
        except OSError:  # no process has the other end
            return

    def lines(self) -> list[str]:
        os.close(self.other)
        self._reader.join(SECONDS)
        os.close(self._end)
        return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._written.decode()))


@pytest.fixture
def shown(tiny_rows: Path, tiny_policy_dir: Path, tmp_path: Path) -> list[str]:
    """The lines of a run of 4 steps of 2 micro-batches, logged and validated every second step."""
    config = short_run(tiny_rows, tiny_policy_dir, STEPS)
    trainer = {"limit_val_batches": 1, "val_check_interval": 2 * ACCUMULATE, "log_every_n_steps": 2}
    changes = {"accumulate_grad_batches": ACCUMULATE, "enable_progress_bar": True, **trainer}
    run = Run(tmp_path, {**config, "trainer": {**config["trainer"], **changes}})
    terminal = Terminal()
    arguments = ["fit", f"--config={run.config}", "--report=false"]
    process = WarmProcess(arguments, terminal.path, {"COLUMNS": "", "TERM": "xterm-256color"}, tmp_path)
    assert process.wait(SECONDS) == 0
    return terminal.lines()


def test_every_figure_is_readable_on_one_line(shown: list[str]) -> None:
    lines = [line.rstrip() for line in shown if re.match(r"(train|validate)\b", line)]
    assert max(map(len, lines)) <= COLUMNS
    figures = r"loss: \d\.\d{3} val: \d\.\d{3} tok/s: \d+\.?\d*[kM]?$"
    assert any(re.search(rf"\D{STEPS}/{STEPS} +\d:\d\d:\d\d +{figures}", line) for line in lines), lines
    assert not any("…" in line or "..." in line for line in lines)
    assert any(re.match(r"validate .* 1/1 ", line) for line in lines)


def test_a_bar_of_the_users_own_is_the_only_one() -> None:
    own = TQDMProgressBar()
    assert with_step_bar([own]) == [own]
    assert [type(callback) for callback in with_step_bar([])] == [StepBar]


@pytest.mark.parametrize(("rate", "text"), [(469.4, "469"), (12_345.0, "12.3k"), (1_234_567.0, "1.23M")])
def test_rates_stay_short(rate: float, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Trainer:
        loggers = ()
        progress_bar_metrics = {"tokens_per_second": rate, "val/nll": 1.5, "own": 2.0}  # noqa: RUF012

    figures = StepBar().get_metrics(Trainer(), None)  # type: ignore[arg-type]
    assert figures == {"val": "1.500", "tok/s": text, "own": 2.0}
