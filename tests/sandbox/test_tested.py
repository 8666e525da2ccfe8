"""Programs that are right, and programs that would pass without being so."""

import pytest

from remit_lit.errors import DataError
from remit_lit.sandbox.programs import check_sandbox
from remit_lit.sandbox.tested import run_tests

pytestmark = pytest.mark.skipif(bool(check_sandbox()), reason=f"sandbox: {check_sandbox()}")

RIGHT = {
    "numbers": ("def f(x):\n    return 2 * x", "assert f(2) == 4 and f(-1.5) == -3.0 and f(2j) == 4j"),
    "text": ("def f(x):\n    print('noise')\n    return x + 'ü漢'", "assert f('a') == 'aü漢' and f('') != 'a'"),
    "bytes": ("def f(x):\n    return x + b'\\xff'", "assert f(b'a') == b'a\\xff'"),
    "collections": (
        "def f(x):\n    return {(1, 2): [x, {x}, frozenset()], None: True}",
        "assert f(3) == {(1, 2): [3, {3}, frozenset()], None: True}\nassert isinstance(f(3), dict)",
    ),
    "subclasses": (
        "from collections import Counter, namedtuple\nP = namedtuple('P', 'x y')\n"
        "def f(x):\n    return Counter(x), P(1, 2)",
        "assert f('aab') == ({'a': 2, 'b': 1}, (1, 2))",
    ),
    "in place": ("def f(x):\n    x.sort()", "values = [3, 1]\nassert f(values) is None\nassert values == [1, 3]"),
    "errors": (
        "def f(x):\n    raise ValueError(x)",
        "try:\n    f('no')\nexcept ValueError as error:\n    assert 'no' in str(error)\nelse:\n    assert False",
    ),
    "objects": (
        "class Stack:\n    size = 0\n    def __init__(self): self.items = []\n"
        "    def push(self, x): self.items.append(x); return self\n    def pop(self): return self.items.pop()\n"
        "    def __len__(self): return len(self.items)\n    def __str__(self): return 'stack'\n"
        "def total(stack): return sum(stack.items)\ndef count(n):\n    yield from range(n)",
        "s = Stack().push(1).push(2)\nassert len(s) == 2 and total(s) == 3 and s.pop() == 2 and str(s) == 'stack'\n"
        "assert Stack.size == 0 and list(count(3)) == [0, 1, 2] and s.items[0] == 1",
    ),
    "a test's own functions": (
        "def f(x):\n    return x + 1",
        "import math\ndef check(candidate):\n    for i in range(3):\n"
        "        assert math.isclose(candidate(i), i + 1)\ncheck(f)",
    ),
    "large numbers": ("import math", "assert math.factorial(2000) % 10 == 0\nassert math.factorial(2000) > 10 ** 5000"),
    "constants": ("LIMIT = 7\nf = lambda *, x=1: x", "assert LIMIT == 7 and f(x=2) == 2"),
}
WRONG = {
    "wrong": ("def f(x):\n    return 5", "assert f(2) == 4"),
    "no such name": ("g = 1", "assert f(2) == 4"),
    "no program": ("no program", "assert True"),
    "an error": ("raise ValueError", "pass"),
    "true": ("class T:\n    pass\nf = lambda x: T()", "assert f(2)"),
    "unlike": ("class T:\n    pass\nf = lambda x: T()", "assert f(2) != 3"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_program_that_is_right_passes(name: str) -> None:
    outcome = run_tests(*RIGHT[name])
    assert outcome.status == "passed", outcome.output


@pytest.mark.parametrize("name", WRONG)
def test_a_program_that_is_not_fails(name: str) -> None:
    assert run_tests(*WRONG[name]).status == "failed"


def test_time_is_limited_on_either_side() -> None:
    assert run_tests("def f():\n    while True: pass", "f()", seconds=1.0).status == "timeout"
    assert run_tests("while True: pass", "pass", seconds=1.0).status == "timeout"
    assert run_tests("", "while True: pass", seconds=1.0).status == "timeout"


def test_tests_that_need_more_than_plain_values_are_named() -> None:
    with pytest.raises(DataError, match="tests can give a program plain values only, not <function"):
        run_tests("def f(g):\n    return g(1)", "assert f(lambda x: x) == 1")
