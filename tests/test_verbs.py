"""The table of verbs holds what the command line and jobs need, and it is true."""

import importlib
import importlib.metadata
import inspect
import subprocess
import sys

import pytest

from remit_lit.cli.messages import extra_with
from remit_lit.cli.parser import Parser
from remit_lit.verbs import VERBS, Verb
from tests.processes import ROOT


def function_of(verb: Verb):
    module, name = verb.function.split(":")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_names_a_function_and_its_own_fields(name: str) -> None:
    verb = VERBS[name]
    parameters = inspect.signature(function_of(verb)).parameters
    if verb.parses:
        assert list(parameters) == ["verb", "arguments"]
    else:
        fields = {verb.output, *verb.as_job, *(verb.resume or {})} - {""}
        assert fields <= set(parameters)


@pytest.mark.parametrize("name", [name for name, verb in VERBS.items() if verb.parses and verb.output])
def test_the_fields_of_a_verb_that_parses_exist(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Parser, "explains_all", True)
    with pytest.raises(SystemExit):
        function_of(VERBS[name])(name, ["--help"])
    shown = capsys.readouterr().out
    verb = VERBS[name]
    assert all(f"--{field}" in shown for field in (verb.output, *verb.as_job, *(verb.resume or {})))


def test_extras_packages_and_late_modules_exist() -> None:
    for module in {module for verb in VERBS.values() for module in verb.late}:
        importlib.import_module(module)
    extras = set(importlib.metadata.metadata("remit_lit").get_all("Provides-Extra") or [])
    assert {verb.extra for verb in VERBS.values()} - {""} <= extras
    for package in {package for verb in VERBS.values() for package in verb.packages}:
        importlib.metadata.version(package)


@pytest.mark.parametrize(
    ("module", "preferred", "extra"),
    [
        ("lm_eval", "evaluation", "evaluation"),
        ("trl", "posttrain", "posttrain"),
        ("math_verify", "", "evaluation"),
        ("deepspeed", "", "deepspeed"),
        ("submitit", "", "slurm"),
        ("torch", "", None),
        ("no_such_module", "", None),
    ],
)
def test_the_extra_of_a_module_is_read_from_the_package_itself(module: str, preferred: str, extra: str | None) -> None:
    assert extra_with(module, preferred) == extra


def test_the_table_of_verbs_imports_nothing_heavy() -> None:
    code = "import sys, remit_lit.verbs; print([m for m in ('torch', 'lightning', 'transformers') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


@pytest.mark.slow  # it imports what those verbs do need
def test_verbs_without_a_trainer_take_their_fields_without_lightning() -> None:
    trained = {"fit", "validate", "test", "estimate", "inspect", "score", "evaluate"}
    modules = sorted({verb.function.split(":")[0] for name, verb in VERBS.items() if name not in trained})
    code = f"""
import importlib, sys
import remit_lit.cli.dispatch
for module in {modules!r}:
    importlib.import_module(module)
    assert not {{"lightning", "torchmetrics"}} & set(sys.modules), module
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("program", [[sys.executable, "-m", "remit_lit"], None], ids=["module", "script"])
def test_the_module_and_the_script_are_the_same(program: list[str] | None) -> None:
    script = program or [f"{sys.prefix}/bin/remit_lit"]
    ended = subprocess.run([*script, "ft"], cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr.split(";")[0]) == (2, "error: there is no verb 'ft'")
    assert "did you mean fit?" in ended.stderr
