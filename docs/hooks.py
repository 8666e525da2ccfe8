"""Pages that MkDocs makes from the package itself, and the figures that lie beside their tables."""

import contextlib
import importlib
import io
import os
import pkgutil
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import remit_lit
from remit_lit.cli import main
from remit_lit.verbs import RESUME, VERBS

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"
_SHARED = """\
In every verb `--model.path` is the model that it works on, and `--resume=true` goes on where an interrupted command
stopped. A verb that had another name before takes either, on the command line and in a config; the last one counts."""


class ShapesAreNoLinks(griffe.Extension):
    """Docstrings write shapes as ``[prompts][samples]``, which Markdown would take for a link."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("][", "]\\[")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give the navigation a page for each subpackage."""
    for section in config.nav or []:
        if isinstance(section, dict) and "API" in section:
            section["API"] = [{subpackage: f"api/{subpackage}.md"} for subpackage in _subpackages()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, two that lie at the repository's root, and the figures of the results."""
    pages = {"reference/cli.md": _cli_page(), "reference/config.md": _config_page()}
    pages |= {f"api/{subpackage}.md": _api_page(subpackage) for subpackage in _subpackages()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    for page in ("CHANGELOG", "CONTRIBUTING"):
        files.append(File.generated(config, f"{page.lower()}.md", abs_src_path=str(ROOT / f"{page}.md")))
    for figure in sorted(EXPERIMENTS.glob("*/results/*/*.png")):
        name = f"results/figures/{figure.parent.name}/{figure.name}"
        files.append(File.generated(config, name, abs_src_path=str(figure)))
    return files


def _verbs() -> dict[str, str]:
    """What each verb is for, by its name."""
    return {name: verb.purpose for name, verb in VERBS.items()}


def _cli_page() -> str:
    head = "# Command line\n\nEach section is the help of a verb: `python -m remit_lit VERB --help=all`.\n\n"
    head += f"{_shared_names()}\n\n"
    index = "\n".join(f"- [`{verb}`](#{verb}): {purpose}" for verb, purpose in _verbs().items())
    return head + index + "\n\n" + "\n".join(f"## {verb}\n\n{_listing(_help(verb))}" for verb in _verbs())


def _shared_names() -> str:
    """The names that all verbs share, and each verb's own beside them."""
    lines = [_SHARED, "", "| verb | shared name | its own |", "|---|---|---|"]
    for name, verb in VERBS.items():
        lines += [f"| `{name}` | `--{shared}` | `--{own}` |" for shared, own in verb.names.items()]
        if RESUME in verb.shared:
            own = ", ".join(f"`--{field}={value}`" for field, value in verb.own(RESUME, True).items())
            lines.append(f"| `{name}` | `--{RESUME}=true` | {own or 'none: it always goes on'} |")
    return "\n".join(lines)


def _help(verb: str) -> str:
    """Without the usage lines, which name every field a second time."""
    _, _, fields = _printed([verb, "--help=all"]).partition("\n\n")
    return fields.strip()


def _config_page() -> str:
    text = re.sub(r",? known subclasses: [^)\n]*\)", ")", _printed(["fit", "--print_config=comments"]))
    fields = re.split(r"\n\n(?=\S)", text.strip())[1:]  # the top-level ones, each with its comment
    sections = {_name(field): field for field in fields if "\n  " in field}
    sections["the run"] = "\n\n".join(field for field in fields if "\n  " not in field)
    head = (
        "# Fields of a config\n\nEvery field of `fit` with its type and default, as "
        "`python -m remit_lit fit --print_config=comments` prints them.\nWith `--config` before it, the same command "
        "shows your merged config; `--model.weighting.help=ReMiT` explains the arguments of a\nclass.\n\n"
    )
    lightnings_last = sorted(sections, key="trainer".__eq__)
    return head + "\n".join(f"## {name}\n\n{_listing(sections[name], 'yaml')}" for name in lightnings_last)


def _name(field: str) -> str:
    found = re.search(r"^(\w+):", field, re.MULTILINE)
    assert found is not None
    return found[1]


def _subpackages() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(remit_lit.__path__) if module.name != "__main__")


def _api_page(subpackage: str) -> str:
    """One page for a package or a lone module: its docstring, then each of its public modules."""
    package, *modules = _modules(f"remit_lit.{subpackage}")
    # What a package hands on is shown once, in the module that defines it.
    only_docstring = "    options: {members: false}\n" if modules else ""
    return "\n".join([f"# {package}\n", f"::: {package}\n{only_docstring}", *(f"::: {m}\n" for m in modules)])


def _modules(name: str) -> Iterator[str]:
    yield name
    for found in pkgutil.walk_packages(getattr(importlib.import_module(name), "__path__", ()), f"{name}."):
        if not found.name.endswith("__main__"):
            yield found.name


def _printed(arguments: Sequence[str]) -> str:
    """What a command prints, run in this process: the kit is imported once for all of them."""
    output = io.StringIO()
    columns = {"COLUMNS": "100"}
    with patch.dict(os.environ, columns), contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        main(arguments)
    return output.getvalue().replace("\b", "")


def _listing(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.strip()}\n```\n"
