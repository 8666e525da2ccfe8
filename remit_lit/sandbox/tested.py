"""A program and its tests in two confined processes, so that the program can neither read nor pass over its tests."""

import os
from pathlib import Path

from remit_lit.errors import DataError
from remit_lit.sandbox.exchange import UNFIT
from remit_lit.sandbox.programs import Outcome, require_sandbox, started

_EXCHANGE = Path(__file__).with_name("exchange.py")


def run_tests(program: str, tests: str, *, seconds: float = 10.0, memory_bytes: int = 2**30) -> Outcome:
    """Run a program, and tests that call it from another process; see :func:`remit_lit.sandbox.programs.run_code`.

    The tests use the program's names as if they stood below it: functions, classes and their objects. Only plain values
    pass between the two (see :mod:`remit_lit.sandbox.exchange`), and the tests compare only these.

    Args:
        program: Python source, e.g. a model's answer.
        tests: Python source that must run to its end, e.g. assertions.
        seconds: of wall time for both.
        memory_bytes: address space of each process.

    Returns:
        What became of the tests.

    Raises:
        ConfigError: this machine cannot hold programs, or a limit is no limit.
        DataError: the tests give the program something that is not plain, such as a function.
    """
    require_sandbox(seconds, memory_bytes)
    source = _EXCHANGE.read_text(encoding="utf-8")
    asked, ask, told, tell = channels = [*os.pipe(), *os.pipe()]
    serving = f"{source}\nserve({program!r}, {asked}, {tell})\n"
    testing = f"{source}\nexamine({tests!r}, {ask}, {told})\n"
    try:
        answering = started(serving, seconds, memory_bytes, passed=(asked, tell), watched=False)
        with answering, started(testing, seconds, memory_bytes, passed=(ask, told)) as process:
            while channels:  # so that either end is told when the other has gone
                os.close(channels.pop())
            outcome = process.outcome()
    finally:
        for descriptor in channels:
            os.close(descriptor)
    if process.process.returncode == UNFIT:
        raise DataError(f"tests: {outcome.output.strip()}")
    return outcome
