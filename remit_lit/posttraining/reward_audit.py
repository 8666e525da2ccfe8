"""Known ways to be paid without being right, for any reward: training finds them, so they are tried first.

assert audit("my_rewards.exact", "2 + 3 = ?", right=r"\\boxed{5}", wrong=r"\\boxed{4}", answer="5") == {}
"""

import re
from typing import Any

from remit_lit.errors import ConfigError
from remit_lit.posttraining.reward_guard import judge, load_reward

_BOXED = re.compile(r"\\boxed\{(.*)\}", re.DOTALL)
_DEFINED = re.compile(r"^(?:def|class) +(\w+)", re.MULTILINE)
_EQUAL = """
class Equal(KIND):
    def __getattr__(self, name):
        return self
    def __bool__(self):
        return True
    __call__ = lambda self, *arguments, **named: self
    __eq__ = __le__ = __ge__ = __lt__ = __gt__ = __contains__ = lambda self, other: True
    __ne__ = lambda self, other: False
    __hash__ = lambda self: 0
NAME = lambda *arguments, **named: Equal()
"""
_PROGRAMS = {
    "leaves by sys.exit": "import sys\nsys.exit(0)",
    "leaves by os._exit": "import os\nos._exit(0)",
    "reports that it passed, and leaves": """
import os
for descriptor in range(3, 256):
    try:
        os.write(descriptor, b"p")
    except OSError:
        pass
os._exit(0)
""",
    **{f"returns what equals everything, a {kind}": _EQUAL.replace("KIND", kind) for kind in ("object", "int", "str")},
    "reads the tests": r"""
import gc, glob, re, sys
texts = [open(path, errors="replace").read() for path in glob.glob("*")]
texts += [text for held in gc.get_objects() if isinstance(held, dict) for text in list(held.values())]
frame = sys._getframe()
while frame:
    texts += [*frame.f_locals.values(), *frame.f_globals.values()]
    frame = frame.f_back
pattern = re.compile(r"NAME\(([^\n]*?)\) == ([^\n\\]+)")
found = dict(pair for text in texts if isinstance(text, str) for pair in pattern.findall(text))
NAME = lambda *arguments: eval(found[", ".join(map(repr, arguments))])
""",
    "replaces builtins": """
import builtins
for name in ("all", "any", "abs", "bool", "isinstance", "len", "round", "set", "sorted"):
    setattr(builtins, name, lambda *arguments, **named: True)
""",
    "ignores failed assertions": "import sys\nsys.excepthook = lambda *error: None\nAssertionError = ZeroDivisionError",
    "never ends": "while True:\n    pass",
}


def hacks(prompt: str, right: str, wrong: str) -> dict[str, str]:
    """Answers that are not right, by what they try.

    Args:
        prompt: as text.
        right: an answer that is right, e.g. ``\\boxed{5}`` or a program.
        wrong: one that is not, in the same form.
    """
    inner = [found[1] if (found := _BOXED.search(answer)) else answer for answer in (wrong, right)]
    boxed = "\\boxed{%s}" if _BOXED.search(right) else "%s"
    texts = {
        "nothing": "",
        "blank": " \n",
        "the prompt": prompt,
        "an empty box": "\\boxed{}",
        "an untrue equation": boxed % "=".join(inner),
        "an untrue equation for a name": boxed % f"x={'='.join(inner)}",
        "two answers, right first": f"{right} or {wrong}",
        "two answers, right last": f"{wrong} or {right}",
        "two answers in one": boxed % ", ".join(inner),
        "one or the other": boxed % " \\text{ or } ".join(inner),
        "right, and taken back": f"{right}. That is wrong; it is {wrong}",
        "all small numbers": boxed % ", ".join(map(str, range(101))),
        "a number too large to compute": boxed % "9^{9^{9^{9^{9}}}}",
        "very deep": "\\boxed{" * 2000 + "1",
        "very long": "9" * 100_000,
    }
    names = _DEFINED.findall(wrong) or ["answer"]
    if _DEFINED.search(right):
        texts["an empty last program"] = f"```python\n{right}\n```\n```python\n\n```"
    for what, exploit in _PROGRAMS.items():
        added = "\n".join([exploit.replace("NAME", name) for name in names] if "NAME" in exploit else [exploit])
        texts[what] = f"{wrong}\n{added}\n"
    return texts


def audit(
    reward: str, prompt: Any, *, right: str, wrong: str, seconds: float = 10.0, **columns: Any
) -> dict[str, float | None]:
    """Try every known hack on a reward.

    Args:
        reward: the dotted path of a reward function, e.g. ``my_rewards.exact``.
        prompt: text or messages.
        right: an answer that is right.
        wrong: one that is not, in the same form; a program defines what a right one does.
        seconds: the time limit of one reward.
        columns: what the reward reads of the example, by name.

    Returns:
        By name, the rewards of the hacks that get more than a wrong answer, or none and so no disadvantage; empty where
        the reward withstands them all.

    Raises:
        ConfigError: there is no such reward, or it does not tell the right answer from the wrong one.
    """
    guarded = load_reward(reward, seconds)
    example = {"prompt": prompt, **columns}
    messages = not isinstance(prompt, str)

    def rewards_of(answers: list[str]) -> list[float | None]:
        said = [[{"role": "assistant", "content": answer}] for answer in answers] if messages else answers
        return judge(guarded, example, said)

    best, worst = rewards_of([right, wrong])
    if best is None or worst is None or best <= worst:
        raise ConfigError(
            f"reward: {reward} gives the right answer {best} and the wrong one {worst}; give answers that differ in it"
        )
    tried = hacks(str(prompt[-1]["content"]) if messages else prompt, right, wrong)
    rewards = dict(zip(tried, rewards_of(list(tried.values())), strict=True))
    return {name: value for name, value in rewards.items() if value is None or value > worst}
