"""A single command that is sent to a cluster: what tells it from others, and what is refused."""

import json
from pathlib import Path

import pytest

from remit_lit.cli.dispatch import main
from remit_lit.jobs.command import Command

LAB = {"class_path": "LabDocuments", "init_args": {"kind": "web", "documents": 9}}
WORDS = {
    "prepare": ["--tokenizer=lab/base", f"--sources={json.dumps({'web': LAB})}"],
    "score": ["--rows=rows", "--model.path=lab/base", "--column=nll"],
    "evaluate": ["--model.path=lab/base", "--tasks=lab"],
    "posttrain": ["--config=experiments/lab/sft.yaml"],
}


def command(root: Path, *words: str, verb: str = "score", directory: str = "/a") -> Command:
    return Command(verb, root, verb, words=words, directory=directory)


def test_words_and_directory_tell_commands_apart(tmp_path: Path) -> None:
    first = command(tmp_path, "--rows=a")
    assert first.key == command(tmp_path, "--rows=a").key
    others = [command(tmp_path, "--rows=b"), command(tmp_path, "--rows=a", verb="prepare")]
    keys = {first.folder, *(other.folder for other in others), command(tmp_path, "--rows=a", directory="/b").folder}
    assert len(keys) == 4
    assert first.arguments == ["score", "--rows=a"]


def test_its_exit_code_says_whether_it_is_done(tmp_path: Path) -> None:
    sent, states = command(tmp_path, "--rows=a"), []
    for error in ("exit code 2: rows", None):
        sent.begin()
        states.append(sent.state)
        sent.end(error, seconds=1.0)
        states.append(sent.state)
    sent.forget()
    assert [*states, sent.state] == ["interrupted", "failed", "interrupted", "done", "interrupted"]


@pytest.mark.parametrize("verb", WORDS)
def test_without_a_cluster_nothing_is_sent(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    output = {"prepare": "--output", "evaluate": "--output", "posttrain": "--run_dir"}.get(verb)
    given = [f"{output}={tmp_path / 'result'}"] if output else []
    for wrong, message in (
        ([], "launcher: got 'slurm', but there is no sbatch on PATH"),
        (["--slurm.cpus=0"], "slurm.cpus: got 0"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main([verb, *WORDS[verb], *given, "--launcher=slurm", *wrong])
        said = capsys.readouterr()
        assert f"error: {message}" in said.err and not said.out
    assert not (tmp_path / "result").exists()
