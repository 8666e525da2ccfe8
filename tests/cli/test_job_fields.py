"""The fields of jobs of every verb are read before the first job runs."""

from pathlib import Path
from typing import Any

import pytest

from remit_lit.cli.job_fields import check_fields
from remit_lit.errors import ConfigError
from remit_lit.jobs.job import Job

GIVEN: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "fit": (("experiments/quickstart.yaml",), {}),
    "posttrain": (("experiments/lab/sft.yaml",), {}),
    "evaluate": ((), {"model.path": "lab/base", "tasks": ["lab"]}),
    "average": ((), {"models": ["lab/base", "lab/sft"]}),
}


@pytest.mark.parametrize("verb", GIVEN)
@pytest.mark.parametrize("is_input", [False, True])
def test_a_mistyped_field_is_named_with_its_job(verb: str, is_input: bool, tmp_path: Path) -> None:
    configs, fields = GIVEN[verb]
    right = Job("right", tmp_path, verb, configs, fields, kind="right")
    wrong = Job("wrong", tmp_path, verb, configs, {**fields, "no_such_field": 1}, kind="wrong")
    last = Job("last", tmp_path, "evaluate", (), {"model.path": "{wrong}", "tasks": ["lab"]}, {"wrong": wrong})
    check_fields([right])
    with pytest.raises(ConfigError, match=r"^wrong: .*no_such_field"):
        check_fields([right, last if is_input else wrong])
