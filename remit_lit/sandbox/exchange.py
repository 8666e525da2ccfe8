"""What passes between a program and its tests, each in a process of its own: questions, and plain values as answers.

The source of this file goes before either program, since the sandbox has the standard library alone. The program's
process has no tests and nothing that it could report by. A value is plain where it is a number, text, bytes, None, or a
list, tuple, set or dictionary of such; anything else stays where it is, and the tests hold a name of it.
"""

import ast
import builtins
import json
import operator
import os
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn, TextIO

UNFIT = 3  # exit code of tests that give a program what is not plain
_COLLECTIONS: dict[str, Callable[..., Any]] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_SCALARS: dict[type, Callable[[Any], Any]] = {int: int.__int__, float: float.__float__, str: str.__str__}
_OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda function, *arguments, **named: function(*arguments, **named),
    "get": getattr,
    "item": operator.getitem,
    "contains": operator.contains,
    "length": len,
    "items": list,
    "text": str,
}


class Held:
    """A name, in the tests' process, of a value in the program's that is not plain: it is neither true nor equal."""

    def __init__(self, number: int, ask: Callable[..., Any]) -> None:
        self._number, self._ask = number, ask

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._ask("call", self, *arguments, **named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask("get", self, name)

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", self, key)

    def __contains__(self, value: Any) -> bool:
        return self._ask("contains", self, value) is True

    def __len__(self) -> int:
        return int(self._ask("length", self))

    def __iter__(self) -> Any:
        return iter(self._ask("items", self))

    def __str__(self) -> str:
        return str(self._ask("text", self))

    def __bool__(self) -> NoReturn:
        raise TypeError("the program gave no plain value, so it is neither true nor false")

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("the program gave no plain value to compare")

    __hash__ = None  # type: ignore[assignment]


def encode(value: Any, hold: Callable[[Any], Any]) -> Any:
    """A value as JSON; ``hold`` makes a name for what is not plain. Of a subclass, what its base class has counts."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    for kind, plain in _SCALARS.items():
        if isinstance(value, kind):
            return plain(value)
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value).decode("latin-1")}
    if isinstance(value, dict):
        return {"dict": [[encode(key, hold), encode(inner, hold)] for key, inner in dict.items(value)]}
    for name, collection in _COLLECTIONS.items():
        if isinstance(value, collection):  # type: ignore[arg-type]
            return {name: [encode(inner, hold) for inner in collection.__iter__(value)]}  # type: ignore[attr-defined]
    return {"held": hold(value)}


def decode(value: Any, held: Callable[[int], Any]) -> Any:
    """What :func:`encode` made JSON of."""
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "held":
        return held(inner)
    if kind == "complex":
        return complex(*inner)
    if kind == "bytes":
        return inner.encode("latin-1")
    if kind == "dict":
        return {decode(key, held): decode(of_key, held) for key, of_key in inner}
    return _COLLECTIONS[kind](decode(item, held) for item in inner)


def serve(source: str, questions: int, answers: int) -> None:
    """The program's process: run it, then answer what is asked until nobody asks."""
    sys.set_int_max_str_digits(0)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    values: list[Any] = [main]

    def hold(value: Any) -> int:
        values.append(value)
        return len(values) - 1

    def answer(operation: str, arguments: list[Any], named: dict[str, Any]) -> dict[str, Any]:
        given = [decode(argument, values.__getitem__) for argument in arguments]
        options = {name: decode(argument, values.__getitem__) for name, argument in named.items()}
        found = _OPERATIONS[operation](*given, **options)
        # A function may change the lists that it is given.
        return {"value": encode(found, hold), "after": [encode(argument, hold) for argument in given[1:]]}

    with open(questions, encoding="utf-8") as asked, open(answers, "w", encoding="utf-8") as told:
        _tell(told, lambda: _begin(source, main))
        for line in asked:
            _tell(told, lambda line=line: answer(*json.loads(line)))  # type: ignore[misc]


def _begin(source: str, main: types.ModuleType) -> dict[str, Any]:
    exec(compile(source, "answer.py", "exec"), main.__dict__)
    return {}


def _tell(stream: TextIO, found: Callable[[], dict[str, Any]]) -> None:
    try:
        reply = found()
    except BaseException as error:
        reply = {"error": type(error).__name__, "message": str(error)}
    stream.write(json.dumps(reply) + "\n")
    stream.flush()


def examine(tests: str, questions: int, answers: int) -> None:
    """The tests' process: run them, where names that they do not define are the program's."""
    sys.set_int_max_str_digits(0)
    tree = ast.parse(tests)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    with open(answers, encoding="utf-8") as told, open(questions, "w", encoding="utf-8") as asked:

        def number(value: Any) -> int:
            if isinstance(value, Held):
                return value._number
            print(f"tests can give a program plain values only, not {value!r}", flush=True)
            os._exit(UNFIT)

        def held(of: int) -> Held:
            return Held(of, ask)

        def ask(operation: str, *arguments: Any, **named: Any) -> Any:
            given = [encode(argument, number) for argument in arguments]
            options = {name: encode(argument, number) for name, argument in named.items()}
            asked.write(json.dumps([operation, given, options]) + "\n")
            asked.flush()
            reply = _read(told)
            for before, after in zip(arguments[1:], reply["after"], strict=True):
                _put(before, decode(after, held))
            return decode(reply["value"], held)

        _read(told)
        known: dict[str, Any] = {"__name__": "__main__"}
        for name in sorted(names - set(dir(builtins))):
            try:
                known[name] = ask("get", held(0), name)
            except AttributeError:  # the tests' own, or nobody's
                continue
        exec(compile(tree, "tests.py", "exec"), known)


def _put(before: Any, after: Any) -> None:
    """Change a list, set or dictionary that was given to a function as the function changed it."""
    if isinstance(before, list):
        before[:] = after
    elif isinstance(before, (set, dict)):
        before.clear()
        before.update(after)


def _read(stream: TextIO) -> dict[str, Any]:
    line = stream.readline()
    if not line.endswith("\n"):
        raise SystemExit("the program ended before its tests did")
    reply: dict[str, Any] = json.loads(line)
    if "error" in reply:
        kind = getattr(builtins, str(reply["error"]), None)
        known = isinstance(kind, type) and issubclass(kind, Exception)
        raise (kind if known else RuntimeError)(f"{reply['error']}: {reply['message']}")  # type: ignore[misc]
    return reply
