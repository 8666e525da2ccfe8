"""Chat templates that are programs gone wild are refused before they are used."""

from pathlib import Path

import pytest

from remit_lit.errors import ConfigError
from remit_lit.posttraining.chat_template import check_template, read_template
from tests.posttraining.conftest import CHAT_TEMPLATE
from tests.processes import ROOT


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{{ 'x' * 10**10 }}", "takes more than 256 MiB"),
        ("{{ ('x' * 5000000) | length }}{{ 'y' * 2000000 }}", "makes 2,000,007 characters"),
        ("{% for i in range(10**9) %}x{% endfor %}", "counts too far"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "takes more than 1 s"),
        ("{% for m in messages %}{{ m.content }", "is no Jinja template (line 1"),
    ],
)
def test_a_hostile_template_is_refused(template: str, fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_template(template, "hostile.jinja", cpu_seconds=1)
    assert str(raised.value).startswith(f"chat_template: hostile.jinja {fault}")


def test_templates_of_the_package_pass() -> None:
    for path in [*ROOT.glob("experiments/**/*.jinja")]:
        check_template(path.read_text(), path.name)
    check_template({"default": CHAT_TEMPLATE}, "ours")


def test_a_template_that_wants_other_messages_is_not_judged() -> None:
    check_template("{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}", "strict")


def test_a_file_that_is_not_there_is_refused_with_what_comes_near(tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text(CHAT_TEMPLATE)
    with pytest.raises(ConfigError, match=r"chat_template: no file '.*chat\.jinj'; did you mean .*chat\.jinja\?"):
        read_template(str(tmp_path / "chat.jinj"))
