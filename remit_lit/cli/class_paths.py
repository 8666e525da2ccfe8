"""Class paths of configs: what is wrong with one, found out before the code of its module runs."""

import ast
import importlib
import importlib.machinery
import inspect
import sys
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jsonargparse import set_parsing_settings
from jsonargparse._common import parsing_settings

from remit_lit.errors import did_you_mean

OWN_PACKAGES = ("remit_lit", "torch", "lightning", "transformers")
"""Their classes may stand in a config anywhere."""

# A value of a field that takes anything stays what it is.
set_parsing_settings(instantiate_subclass_spec_in_any=False)


@contextmanager
def guarded() -> Iterator[None]:
    """Within, a value of another package is imported only where :func:`load_class` found it right for its field.

    The settings are those of the whole process, whose other parsers they are no business of.
    """
    names = ("import_path_verdicts", "import_paths_enforced")
    before = {name: parsing_settings[name] for name in names}
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=list(OWN_PACKAGES))
    try:
        yield
    finally:
        parsing_settings.update(before)


def is_dotted(value: Any) -> bool:
    """Whether a value has the form of a class path."""
    return isinstance(value, str) and "." in value and all(part.isidentifier() for part in value.split("."))


def load_class(path: str, bases: tuple[type, ...]) -> tuple[Any, str]:
    """The class, or function that makes one, at a path; None and what is wrong with the path where there is no such.

    The module is imported only where its source defines the name, and not as a class without a base. Its path may then
    stand in the config.

    Args:
        path: dotted.
        bases: of which it has to be a subclass.
    """
    base = " or ".join(kind.__name__ for kind in bases)
    wrong = _wrong_source(path, base)
    if wrong:
        return None, wrong
    module, names = _split(path)
    try:
        found = importlib.import_module(module)
        for name in names:
            found = getattr(found, name)
    except AttributeError:
        known = [name for name, value in vars(importlib.import_module(module)).items() if inspect.isclass(value)]
        return None, f"the module {module} has no {names[0]}; {did_you_mean(names[0], known)}give a subclass of {base}"
    except Exception as error:  # whatever the module's own code raises
        return None, f"importing {module} raised {type(error).__name__}: {error}; mend it, or give another class"
    made = found if inspect.isclass(found) else _returned(found)
    if not isinstance(found, bases) and not (inspect.isclass(made) and issubclass(made, bases)):
        what = "no subclass of" if inspect.isclass(found) else "no class, nor a function that says it returns a"
        return None, f"{path} is {what} {base}; give one"
    if inspect.isclass(found) and inspect.isabstract(found):
        return None, f"{path} is abstract (it lacks {', '.join(sorted(found.__abstractmethods__))}); give a subclass"
    defined = getattr(found, "__qualname__", None)
    set_parsing_settings(import_path_allowlist=[path, *([f"{found.__module__}.{defined}"] if defined else [])])
    return found, ""


def _returned(function: Any) -> Any:
    """What a function says that it returns; None where it does not say."""
    try:
        return typing.get_type_hints(function).get("return")
    except Exception:  # of annotations that cannot be resolved
        return None


def same_class(path: Any, kind: Any) -> bool:
    """Whether a class path, of a module that is there already, is that of a class."""
    module, _, name = str(path).rpartition(".")
    return getattr(sys.modules.get(module), name, None) is kind


def _wrong_source(path: str, base: str) -> str:
    """What the module's source says against a path, without running it; empty where it says nothing."""
    module, names = _split(path)
    if not module:
        near = did_you_mean(path.split(".")[0], sys.modules)
        return f"there is no module {path.rpartition('.')[0]!r}; {near}give the dotted path of a subclass of {base}"
    if module in sys.modules:
        return ""
    spec = _find(module)
    try:
        source = getattr(spec and spec.loader, "get_source", lambda _: None)(module)
        tree = None if source is None else ast.parse(source)
    except (SyntaxError, ImportError, UnicodeDecodeError) as error:
        return f"the module {module} cannot be read ({error}); mend it, or give another class"
    if tree is None:  # an extension
        return ""
    if not names:
        return f"{path} is a module; give the path of a subclass of {base} in it, e.g. {path}.NAME"
    defined = dict(_definitions(tree.body))
    if names[0] not in defined and not {"*", "__getattr__"} & defined.keys():
        near = did_you_mean(names[0], [name for name, node in defined.items() if isinstance(node, ast.ClassDef)])
        return f"the module {module} has no {names[0]}; {near}give a subclass of {base}"
    node = defined.get(names[0])
    if isinstance(node, ast.ClassDef) and len(names) == 1 and not (node.bases or node.keywords or node.decorator_list):
        return f"{path} is no subclass of {base}, for it has no base class; give one"
    return ""


def _split(path: str) -> tuple[str, list[str]]:
    """The longest module that a path begins with, and the names that follow."""
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        name = ".".join(parts[:end])
        if name in sys.modules or _find(name) is not None:
            return name, parts[end:]
    return "", parts


def _find(module: str) -> importlib.machinery.ModuleSpec | None:
    """The module's spec; unlike ``importlib.util.find_spec`` it imports no package on the way."""
    places: Any = None
    spec = None
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        found = (finder.find_spec(name, places) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((each for each in found if each is not None), None)
        if spec is None:
            return None
        places = spec.submodule_search_locations
        if places is None and end < len(parts):
            return None
    return spec


def _definitions(body: list[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """The names that statements of a module define, also within ``if``, ``try`` and ``with``."""
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                yield (alias.asname or alias.name).split(".")[0], node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name):
                        yield name.id, node
        else:
            for inner in ("body", "orelse", "finalbody"):
                yield from _definitions(getattr(node, inner, []))
            for handler in getattr(node, "handlers", []):
                yield from _definitions(handler.body)
