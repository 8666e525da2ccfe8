"""One name for the model and one for going on, in every verb that has them, beside the verb's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from remit_lit.cli.dispatch import main
from remit_lit.jobs.job import Job
from remit_lit.verbs import VERBS

POLICY, ITSELF = "model.policy.path", "model.path"
# The verb's own field for the model; None of a verb that works on none, or on a whole experiment.
MODELS = {
    **dict.fromkeys(("fit", "validate", "test", "estimate", "inspect"), POLICY),
    **dict.fromkeys(("score", "posttrain", "agreement", "evaluate"), ITSELF),
    **{"export": "run", "average": "models", "convert": "checkpoint"},
    **dict.fromkeys(("prepare", "select", "table", "figure", "flywheel", "report", "configs", "strategies", "tasks")),
}
# What resume: true is in the verb's own fields; a verb that is not here starts anew.
RESUMES: dict[str, dict[str, Any]] = {
    "fit": {"ckpt_path": "last"},
    "posttrain": {"resume": True},
    **{verb: {} for verb in ("prepare", "score", "table", "figure", "flywheel")},
}


@pytest.fixture
def config_of(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """The config that a command line comes to."""

    def printed(*command: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as stop:
            main([*command, "--print_config"])
        said = capsys.readouterr()
        assert not stop.value.code, said.err
        config: dict[str, Any] = yaml.safe_load(said.out)
        return config

    return printed


def at(config: Any, path: str) -> Any:
    for part in path.split("."):
        config = config[part]
    return config


def test_every_verb_is_tried() -> None:
    assert set(MODELS) == set(VERBS) and set(RESUMES) == {
        name for name, verb in VERBS.items() if verb.resume is not None
    }


@pytest.mark.parametrize(("verb", "field"), [(verb, field) for verb, field in MODELS.items() if field])
def test_a_verb_takes_its_model_by_either_name(
    verb: str, field: str, config_of: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "shared.yaml").write_text(
        "model: {path: [first, one]}\n" if verb == "average" else "model: {path: first}\n"
    )
    shared = f"--config={tmp_path}/shared.yaml"
    assert at(config_of(verb, shared), field) in ("first", ["first", "one"])
    assert at(config_of(verb, shared, f"--{field}=[second]"), field) in (["second"], "[second]")  # the last one counts
    assert at(config_of(verb, f"--{field}=[second]", "--model.path", "[third]"), field) in (["third"], "[third]")


@pytest.mark.parametrize(("verb", "fields"), RESUMES.items())
def test_a_verb_that_goes_on_takes_one_name_for_it(
    verb: str, fields: dict[str, Any], config_of: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text("resume: true\n")
    before = config_of(verb)
    assert config_of(verb, "--resume=true") == config_of(verb, f"--config={tmp_path}/run.yaml") == {**before, **fields}
    assert config_of(verb, "--resume", "false") == before


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("model: {path: a, policy: {path: b}}", [], "model.path: a config has model.policy.path too"),
        ("{}", ["--resume=maybe"], "resume: got 'maybe'; give true or false"),
        ("model: {path: a/b/c}", [], "model.policy.path: 'a/b/c' is neither"),
    ],
)
def test_a_mistake_is_named_by_the_name_that_was_given(
    content: str, arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(f"{content}\n")
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config=quickstart", f"--config={config}", *arguments])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and f"error: {message}" in said
    assert "a/b/c" not in said or f"set in {config}:1, over " in said


def test_a_job_is_the_same_by_either_name(tmp_path: Path) -> None:
    (tmp_path / "shared.yaml").write_text("model: {path: lab/base}\n")
    shared = Job("a", tmp_path, "fit", (str(tmp_path / "shared.yaml"),))
    own, given = (Job("a", tmp_path, "fit", (), {name: "lab/base"}) for name in (POLICY, ITSELF))
    assert shared.key == own.key == given.key
    assert shared.recipe["fields"] == {POLICY: "lab/base"}
