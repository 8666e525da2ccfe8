"""Power cuts at every boundary of a recorded command: what they leave, and whether the promise is kept there."""

import hashlib
import importlib
import pickle
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from remit_lit.cli.dispatch import main
from remit_lit.verbs import VERBS
from tests.faults.crash.disk import MODELS, Disk, Model, Tree, read_tree, write_tree
from tests.faults.crash.forks import in_a_fork
from tests.faults.crash.promise import Promise
from tests.faults.crash.promises import PROMISES
from tests.faults.crash.recording import read_calls
from tests.faults.crash.replay import Replay


@dataclass(frozen=True)
class Cut:
    """A power cut.

    Attributes:
        before: the operation that is not done any more; of the last cut, ``the end``.
        model: what had reached the disk.
        tree: what the machine finds when it starts again.
        acknowledged: what the command had told to be safe.
        has_ended: whether the command had ended without an error.
    """

    before: str
    model: Model
    tree: Tree
    acknowledged: int
    has_ended: bool = False

    @cached_property
    def key(self) -> bytes:
        """The same for cuts that nothing could tell apart."""
        return hashlib.sha256(pickle.dumps((sorted(self.tree.items()), self.acknowledged, self.has_ended))).digest()


@dataclass
class Findings:
    """How the cuts of a verb went under one model.

    Attributes:
        operations: that were recorded.
        cuts: tried.
        states: different ones that they left; each was looked at.
        resumed: states from which the verb was run again to its end.
        broken: cuts that broke the promise, with what went wrong.
    """

    operations: int
    cuts: int = 0
    states: set[bytes] = field(default_factory=set)
    resumed: int = 0
    broken: list[tuple[str, str]] = field(default_factory=list)


def record_cuts(promise: Promise, directory: Path) -> tuple[int, list[Cut]]:
    """Run a verb's command under the recorder; how many operations it did, and all of its power cuts.

    Raises:
        AssertionError: the command failed, or the record does not lead to the directory that it really left.
    """
    promise.inputs.mkdir(parents=True)
    promise.root.mkdir()
    arguments = promise.prepare()
    disk, log = Disk(promise.root), directory / "calls.log"
    error = in_a_fork(lambda: _command(promise, arguments), log)
    assert error is None, error
    replay, operations, cuts = Replay(disk), 0, list[Cut]()
    with open(log) as lines:
        for operation in replay.operations(read_calls(lines)):
            operations += 1
            if operation.is_boundary:
                cuts += _cuts_now(operation.what, promise, disk)
    cuts += _cuts_now("the end", promise, disk, has_ended=True)
    seen, real = disk.seen(), read_tree(promise.root)
    unseen = sorted(name for name in {*seen, *real} if seen.get(name, "") != real.get(name, ""))
    assert not unseen, f"changed by other than recorded calls, such as a mapping: {', '.join(unseen)}"
    promise.keep()
    return operations, cuts


def _command(promise: Promise, arguments: list[str]) -> None:
    sys.argv[1:] = arguments
    with promise.surroundings():
        main(arguments)


def _cuts_now(before: str, promise: Promise, disk: Disk, has_ended: bool = False) -> list[Cut]:
    done = promise.acknowledged(disk)
    return [Cut(before, model, disk.after_power_cut(model), done, has_ended) for model in MODELS]


def try_cuts(promise: Promise, operations: int, cuts: list[Cut], every: int) -> dict[Model, Findings]:
    """Look at each different state that cuts left, and go on from one of ``every`` and from the last of each model."""
    found = {model: Findings(operations) for model in MODELS}
    verdicts: dict[bytes, str | None] = {}
    resumed = set[bytes]()
    for cut in cuts:
        if cut.key not in verdicts:
            if len(verdicts) % every == 0 or cut.has_ended:
                resumed.add(cut.key)
            verdicts[cut.key] = broken_promise(promise, cut, cut.key in resumed)
        findings = found[cut.model]
        findings.cuts += 1
        findings.states.add(cut.key)
        if (verdict := verdicts[cut.key]) is not None:
            findings.broken.append((cut.before, verdict))
    for findings in found.values():
        findings.resumed = len(findings.states & resumed)
    return found


def broken_promise(promise: Promise, cut: Cut, resumes: bool) -> str | None:
    """What is wrong once a machine is started again after a cut; None where the promise is kept."""
    shutil.rmtree(promise.root)
    promise.root.mkdir()
    write_tree(cut.tree, promise.root)
    try:
        if cut.has_ended:
            promise.require_all()
        promise.require_safe(cut.acknowledged)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return in_a_fork(lambda: _go_on(promise)) if resumes else None


def _go_on(promise: Promise) -> None:
    arguments = promise.again
    if arguments:
        _command(promise, arguments)
    promise.require_whole()


def summary(broken: list[tuple[str, str]]) -> Iterator[str]:
    """Each way in which a promise was broken, with how many cuts broke it so and the first of them."""
    for verdict, count in Counter(verdict for _, verdict in broken).most_common():
        first = next(before for before, said in broken if said == verdict)
        yield f"{count} cuts, the first before `{first}`: {verdict}"


def try_verb(verb: str, directory: Path, every: int) -> dict[Model, Findings]:
    """Record a verb in an empty directory, and try all of its power cuts."""
    promise = PROMISES[verb](directory / "inputs", directory / "disk")
    for name in (verb, *promise.runs):  # once, and not in each fork
        importlib.import_module(VERBS[name].function.split(":")[0])
    return try_cuts(promise, *record_cuts(promise, directory), every)
