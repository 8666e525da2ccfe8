"""The README as a package index shows it: with links that lead somewhere from there."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
_RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)")


def readme(text: str, repository: str | None) -> str:
    """Links to files of the repository made absolute; without an address of it, only their words are left."""

    def link(match: re.Match[str]) -> str:
        is_image, words, path = match.groups()
        if repository is None:
            return "" if is_image else words
        return f"{is_image}[{words}]({repository}/{'raw' if is_image else 'blob'}/HEAD/{path})"

    return _RELATIVE.sub(link, text)


project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
setup(
    long_description=readme((ROOT / "README.md").read_text(), project.get("urls", {}).get("Repository")),
    long_description_content_type="text/markdown",
)
