"""The configs that come with the package: found by name from any directory, listed, shown and copied."""

import difflib
import re
import shutil
from pathlib import Path

from remit_lit.errors import ConfigError
from remit_lit.files import near_path

_PACKAGE = Path(__file__).parent
_FOLDERS = ("experiments", "baselines")
_SUFFIXES = (".yaml", ".jinja", ".sh")


def configs_root() -> Path:
    """The directory that holds ``experiments/`` and ``baselines/``: in a wheel the package's, else the repository."""
    inside = _PACKAGE / "shipped"
    return inside if inside.is_dir() else _PACKAGE.parent


def config_names() -> list[str]:
    """The shipped files by their paths below :func:`configs_root`, without results."""
    root = configs_root()
    paths = (path.relative_to(root) for folder in _FOLDERS for path in (root / folder).rglob("*"))
    return sorted(path.as_posix() for path in paths if path.suffix in _SUFFIXES and "results" not in path.parts)


def find_config(field: str, name: str) -> str:
    """The file that a config's name stands for.

    A file at that path, from the working directory, comes first; then a shipped one: ``baselines/rho1`` is
    ``baselines/rho1.yaml``, and ``quickstart`` is ``experiments/quickstart.yaml``.

    Args:
        field: that has the name, for the message.
        name: a path, or a shipped config's name.

    Raises:
        ConfigError: naming ``field`` and what comes near, where there is no such file.
    """
    root = configs_root()
    places = [
        Path(name),
        *(root / folder / f"{name}{end}" for folder in ("", "experiments") for end in ("", ".yaml")),
    ]
    for path in places:
        if path.is_file():
            return str(path)
    shipped = config_names()
    # A bare name is most often mistyped within its last part.
    by_ending = {ending: given for given in shipped for ending in (given, Path(given).stem, given.split("/", 1)[1])}
    near = difflib.get_close_matches(name.removesuffix(".yaml"), by_ending, n=3)
    shipped_near = f"did you mean {', '.join(dict.fromkeys(by_ending[ending] for ending in near))}? " if near else ""
    hint = near_path(name) or shipped_near
    raise ConfigError(
        f"{field}: no file {name!r} from {Path.cwd()}, nor among the package's configs; {hint}"
        "`python -m remit_lit configs` lists those"
    )


def browse(show: str | None = None, copy: str | None = None) -> str:
    """List the configs that come with the package, show one, or copy them all.

    Args:
        show: name of the config to print, as it would be given to ``--config``.
        copy: directory to copy ``experiments/`` and ``baselines/`` into, to change them there.

    Returns:
        What is printed.

    Raises:
        ConfigError: both are given, there is no such config, or the directory holds some already.
    """
    if show is not None and copy is not None:
        raise ConfigError("show: give either show or copy")
    if show is not None:
        path = find_config("show", show)
        return f"{path}\n{Path(path).read_text().rstrip()}"
    if copy is not None:
        return _copy(Path(copy))
    lines = [f"  {name:<48} {summary_of(configs_root() / name)}".rstrip() for name in config_names()]
    return "\n".join([str(configs_root()), *lines])


def _copy(target: Path) -> str:
    for folder in _FOLDERS:
        if (target / folder).exists():
            raise ConfigError(f"copy: {target / folder} exists; give another directory")
    for name in config_names():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(configs_root() / name, target / name)
    return f"{len(config_names())} files copied to {target}"


def summary_of(path: Path) -> str:
    """The first sentence of a file's opening comment."""
    with path.open() as lines:
        comment = []
        for line in lines:
            if line.startswith("#!"):
                continue
            if not line.startswith("#"):
                break
            comment.append(line.strip("# \n"))
    return re.split(r"(?<! al)\. |: ", " ".join(comment))[0].rstrip(".")
