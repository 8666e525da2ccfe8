"""What a verb promises a user whose machine loses power, to be checked in the directory that is left."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import yaml  # type: ignore[import-untyped]

from tests.faults.crash.disk import Disk, Tree, read_tree


class Promise(ABC):
    """A verb and what a power cut may not take from it.

    Args:
        inputs: a directory for what the verb reads, which no power cut touches.
        root: the directory that it writes, and that loses power.
    """

    verb: ClassVar[str]
    runs: ClassVar[tuple[str, ...]] = ()  # verbs that it runs in turn

    def __init__(self, inputs: Path, root: Path) -> None:
        self.inputs, self.root = inputs, root
        self.undisturbed: Tree = {}

    @abstractmethod
    def prepare(self) -> list[str]:
        """Make the inputs, and what is on the disk before; the arguments of the command that is recorded."""

    @property
    @abstractmethod
    def again(self) -> list[str]:
        """The arguments with which a user goes on after the power cut."""

    @abstractmethod
    def require_whole(self) -> None:
        """Fail unless the result is there and the undisturbed one."""

    def require_all(self) -> None:
        """Fail unless all that the command left is there, as it must be once it has ended without an error."""
        self.require_whole()

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        """What the verb's command runs in."""
        yield

    def keep(self) -> None:
        """Remember what the undisturbed command left."""
        self.undisturbed = read_tree(self.root)

    def acknowledged(self, disk: Disk) -> int:
        """How much the command has told by now to be safe: of a run, the steps of its newest finished checkpoint."""
        return 0

    @abstractmethod
    def require_safe(self, acknowledged: int) -> None:
        """Fail where the disk holds something half that looks whole, or lacks what was acknowledged."""

    def require_same(self, *paths: str) -> None:
        """Compare files, or all files of directories, with those of the undisturbed command."""
        found = read_tree(self.root)
        names = [name for path in paths for name in self.undisturbed if f"{name}/".startswith(f"{path}/")]
        assert names, paths
        different = [name for name in names if found.get(name) != self.undisturbed[name]]
        assert not different, f"not as the undisturbed command left them: {', '.join(different)}"

    def write_config(self, content: dict[str, Any]) -> str:
        path = self.inputs / f"{self.verb}.yaml"
        path.write_text(yaml.safe_dump(content))
        return f"--config={path}"
