"""What a person meets who mistypes: each row is a command line and what its message must say."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch  # noqa: F401 - its log keeps the stream of its import, which must be no test's
import pytest

from remit_lit.cli.dispatch import main
from tests.processes import ROOT

FILES: dict[str, str | bytes] = {
    "broken.yaml": "model: {\n  a: [1\n",
    "list.yaml": "- 1\n- 2\n",
    "word.yaml": "quickstart\n",
    "twice.yaml": "data: {}\ndata: {}\n",
    "binary.yaml": b"\xff\xfe\x00",
    "first.yaml": "model:\n  weighting:\n    class_path: ReMiT\n    init_args:\n      epsilon: 0.3\n",
    "second.yaml": "# ours\nmodel: {weighting: {init_args: {epsilon: 5}}}\n",
    "keep.yaml": "model: {weighting: {class_path: Rho1, init_args: {kep: 0.5}}}\n",
    "any.yaml": "trainer: {logger: null}\nloger: 1\n",  # a field that takes anything, null too, before the mistake
    "nested.yaml": "fit:\n  data: {batch_size: 3}\n",
    "reaching.yaml": "data: {batch_size: '${nothing.here}'}\n",
    "evil.py": "open('imported', 'w')\n\n\nclass X:\n    pass\n",
    "torn.py": "class X(\n",
    "mine.py": """
from remit_lit.weighting import TokenWeighting

class Half(TokenWeighting):
    def __init__(self, weight: float = 0.5) -> None:
        if weight > 1:
            raise RuntimeError("weights above one explode")
        self.weight = weight

    def weights(self, signals):
        return signals.mask.float() * self.weight
""",
    "table.yaml": """
title: T
experiment: [experiments/quickstart.yaml]
methods:
  remit: {title: ReMiT, configs: [baselines/remit.yaml]}
  mine:
    title: Mine
    configs: [baselines/rho1.yaml]
    fields: {model.weighting: {class_path: evil.X}}
rows: {a: {title: A, task: lab, metric: accuracy}}
evaluate: {tasks: [lab]}
output: out
""",
    "circle.yaml": "extends: circle.yaml\n",
    "odd.jsonl": '{"text": "good"}\noops\n',
    "wild.jinja": "{% for i in range(10**9) %}x{% endfor %}",
}

FIT = "fit --config quickstart"
ROWS = "--data.rows=rows --data.prepare=null"
WEB = "data.prepare.sources.web.init_args"
SFT = "posttrain --config experiments/lab/sft.yaml --model.path=lab/base --run_dir=run"
RLVR = "posttrain --config experiments/lab/rlvr.yaml --model.path=lab/base --run_dir=run"
SCORE = "score --rows=rows --model.path=lab/base --column=nll"
PREPARE = "prepare --output=made --tokenizer=lab/base"
TABLE = "table --config table.yaml --dry_run=true"
WEIGHTING = "--model.weighting"

# The command line, and words that its message has, the first of which it begins with.
MISTAKES: list[tuple[str, list[str]]] = [
    # Files and verbs.
    ("fitt", ["there is no verb 'fitt'", "did you mean fit?"]),
    ("tabel --config x", ["there is no verb 'tabel'", "did you mean table?"]),
    ("fit --config quikstart", ["config: no file 'quikstart'", "did you mean experiments/quickstart.yaml?"]),
    ("fit --config ./lists.yaml", ["config: no file './lists.yaml'", "did you mean list.yaml?"]),
    ("fit --config", ["config: no file was given", "--config=FILE"]),
    ("fit --config broken.yaml", ["config: broken.yaml:3 is not valid YAML", "']'"]),
    ("fit --config list.yaml", ["config: list.yaml holds a list", "a mapping of fields"]),
    ("fit --config word.yaml", ["config: word.yaml holds the value 'quickstart'", "a mapping of fields"]),
    ("fit --config twice.yaml", ["config: twice.yaml:2 is not valid YAML", "duplicate key data"]),
    ("fit --config binary.yaml", ["config: binary.yaml cannot be read", "give a YAML file"]),
    ("table --config list.yaml", ["config: list.yaml holds a list"]),
    ("score --config broken.yaml", ["config: broken.yaml:3"]),
    ("inspect --config quickstart --config any.yaml --output=w", ["loger: ", "has no field 'loger'", "any.yaml:2"]),
    ("fit quickstart", ["config: got quickstart without a field's name", "--config=quickstart"]),
    ("configs --show=quickstrt", ["show: no file 'quickstrt'", "did you mean experiments/quickstart.yaml?"]),
    ("configs --sow=x", ["sow: configs has no field 'sow'", "did you mean show?", "set on the command line"]),
    ("table --config circle.yaml", ["extends: circle.yaml -> circle.yaml"]),
    (f"{FIT} --config nested.yaml", ["fit: fit has no field 'fit'", "nested.yaml:1", "model, data"]),
    (f"{FIT} --config reaching.yaml", ["config: data.batch_size", "nothing.here", "its own file"]),
    # Fields.
    (f"{FIT} --config keep.yaml", ["model.weighting.init_args.kep: Rho1 has no field 'kep'", "keep?", "keep.yaml:1"]),
    # Without init_args, over a file's.
    (f"{FIT} --model.weighting.epsilon=2x", ["model.weighting.init_args.epsilon: got '2x'", "the command line, over"]),
    (f"{FIT} {WEIGHTING}.epsilo=1", ["model.weighting.init_args.epsilo: ReMiT has no field", "did you mean epsilon?"]),
    (f"{FIT} --batch_size=3", ["batch_size: fit has no field 'batch_size'", "did you mean data.batch_size?"]),
    (f"{FIT} --data.batchsize=3", ["data.batchsize: data has no field", "did you mean batch_size?"]),
    (f"{FIT} --trainer.max_step=3", ["trainer.max_step: trainer has no field", "did you mean max_steps?"]),
    (f"{FIT} --model.polcy.path=x", ["model.polcy: model has no field", "did you mean policy?"]),
    (f"{FIT} --model.reference.init_args.model.pth=x", ["model.reference.init_args.model.pth: ", "path?"]),
    (f"{FIT} --model.optimizer.init_args.lrr=1", ["model.optimizer.init_args.lrr: AdamW has no field", "mean lr?"]),
    (f"{FIT} --{WEB}.documnts=9", [f"{WEB}.documnts: LabDocuments has no field", "documents?"]),
    (f"{FIT} --trainer.default_root_dir=x", ["trainer.default_root_dir: follows from run_dir"]),
    (f"{FIT} --model.horizon.steps", ["model.horizon.steps: got no value", "--model.horizon.steps=VALUE"]),
    ("fit --config baselines/remit", [
        "model.optimizer, data.rows, data.batch_size: missing", "remit.yaml is an overlay", "--config=quickstart be",
    ]),
    ("estimate --config shapes/olmo2_1b", [
        "model.optimizer, data.rows, data.batch_size: missing", "shapes/olmo2_1b.yaml is an overlay",
        "give --config=experiments/olmo2_1b.yaml before",
    ]),
    ("inspect --config shapes/smollm3_3b --config baselines/remit --output=w", [
        "data.rows: missing", "remit.yaml are overlays", "--config=experiments/smollm3_3b.yaml before",
    ]),
    (f"{SFT} --stage.on_too_lon=drop", ["stage.on_too_lon: SFT has no field", "did you mean on_too_long?"]),
    (f"{SFT} --training.learning_rte=1", ["training.learning_rte: ", "did you mean learning_rate?"]),
    (f"{RLVR} --data.problem=1", ["data.init_args.problem: LabProblems has no field", "did you mean problems?"]),
    (f"{SFT} --training.trl.use_vlm=true", ["training.trl.use_vlm: TRL's SFTConfig has no field"]),
    (f"{SCORE} --colum=x", ["colum: score has no field", "did you mean column?"]),
    ("score --rows=rows --model.path=lab/base", ["column: missing", "--column=VALUE"]),
    (f"{PREPARE} --sources.a=JsonLines --sources.a.path=x", ["sources.a.path: JsonLines has no field"]),
    (f"{PREPARE} --sources.a=LabDocuments", ["sources.a.init_args.kind: missing", "LabDocuments needs it"]),
    ("agreement --referenc.path=x", ["referenc: agreement has no field", "did you mean reference?"]),
    ("estimate --config quickstart --gpu_memry=3", ["gpu_memry: estimate has no field", "did you mean gpu_memory?"]),
    (f"{TABLE} --methods.remit.titel=x", ["methods.remit.titel: ", "did you mean title?"]),
    (f"{TABLE} --baselin=remit", ["baselin: table has no field", "did you mean baseline?"]),
    # Values.
    (f"{FIT} --config first.yaml --config second.yaml", [
        "model.weighting.init_args.epsilon: got 5", "(0.0, 1.0]", "set in second.yaml:2, over first.yaml:5",
    ]),
    (f"{FIT} --data.batch_size=two", ["data.batch_size: got 'two'", "an integer (int)", "set on the command line"]),
    (f"{FIT} {WEIGHTING}.init_args.center=colum", ["model.weighting.init_args.center: got 'colum'", "row, segment"]),
    (f"{FIT} --model.optimizer.init_args.lr=fast", ["model.optimizer.init_args.lr: got 'fast'", "a number (float)"]),
    (f"{FIT} --data=[1]", ["data: got [1]", "a mapping of rows, batch_size"]),
    (f"{FIT} --model.policy=3", ["model.policy: got '3'", "a mapping of path"]),
    (f"{FIT} --trainer.precision=foo", ["trainer.precision: got 'foo'", "bf16-mixed"]),
    (f"{FIT} --trainer.strategy=foo", ["trainer.strategy: ", "'foo'", "ddp"]),
    (f"{FIT} --trainer.accelerator=foo", ["trainer.accelerator: ", "'foo'", "cpu"]),
    (f"{FIT} --{WEB}.kind=wob", [f"{WEB}.kind: got 'wob'", "web, noise"]),
    (f"{FIT} --{WEB}.documents=0", [f"{WEB}.documents: got 0", "at least 1", "quickstart.yaml"]),
    (f"{FIT} --model.schedule=Linear --model.schedule.final=2", ["model.schedule.init_args.final: got 2", "[0.0"]),
    (f"{FIT} {ROWS} --model.schedule.warmup_steps=7 --model.horizon.steps=6", [
        "model.schedule.warmup_steps: got 7; give less than the horizon of 6 steps",
        "\n  set on the command line, over", "\n  model.horizon.steps is set on the command line, over",
    ]),
    (f"{FIT} {ROWS} --trainer.max_steps=301", [
        "trainer.max_steps: got 301; give at most the horizon of 300 steps", "\n  model.horizon.steps is set in",
    ]),
    (f"{SFT} --training.learning_rate=-1", ["training.learning_rate: got -1", "sft.yaml:"]),
    (f"{RLVR} --stage.beta=-1", ["stage.init_args.beta: got -1", "rlvr.yaml:"]),
    ("evaluate --model.path=lab/base --tasks=[lab] --limit=x --output=o", ["limit: got 'x'", "(int) or null"]),
    (f"{TABLE} --methods.remit.fields='{{model.horizn.steps: 3}}'", [
        "remit-0: model.horizn: ", "did you mean horizon?",
    ]),
    (f"{TABLE} --fields='{{model.weighting.epsilon: x}}'", ["remit-0: model.weighting.init_args.epsilon: ", "'x'"]),
    (f"{TABLE} --cells=table.yaml", ["cells: got 'table.yaml', which is a file; give a folder"]),
    (f"{TABLE} --baseline=remt", ["baseline: got 'remt'", "did you mean remit?", "remit, mine"]),
    (f"{TABLE} --methods.remit.configs=[baselines/remitt.yaml]", [
        "methods.remit.configs: no file 'baselines/remitt.yaml'", "did you mean baselines/remit.yaml",
    ]),
    (f"{SCORE} --split=trian", ["split: got 'trian'", "train"]),
    # Records.
    (f"{PREPARE} --sources.a=JsonLines --sources.a.files=odd.jsonl", [
        "sources.a.init_args.on_malformed: source 'a': odd.jsonl, line 2: not JSON", "skip", "set on the command line",
    ]),
    (f"{PREPARE} --sources.a=LabDocuments --sources.a.kind=web --sources.a.documents=9 --sources.a.seed=0 "
     "--sequence_length=32 --validation.b=JsonLines --validation.b.files=odd.jsonl", [
        "validation.b.init_args.on_malformed: source 'b': odd.jsonl, line 2",
    ]),
    (f"{FIT} --data.rows=new --data.prepare.num_workers=1 --data.prepare.sources.web=JsonLines "
     "--data.prepare.sources.web.files=odd.jsonl", [
        "data.prepare.sources.web.init_args.on_malformed: source 'web': odd.jsonl, line 2", "line, over", "quickstart",
    ]),
    # Classes.
    (f"{FIT} {WEIGHTING}=Rho2", ["model.weighting: got 'Rho2'", "did you mean Rho1?", "subclass of TokenWeighting"]),
    (f"{FIT} --model.optimizer=AdamV", ["model.optimizer: got 'AdamV'", "did you mean Adam"]),
    (f"{FIT} --trainer.callbacks+=LabEvaluatio", ["trainer.callbacks[1]: ", "did you mean LabEvaluation?"]),
    (f"{FIT} --data.prepare.sources.web.class_path=LabDocument", ["data.prepare.sources.web: ", "LabDocuments?"]),
    (f"{FIT} {WEIGHTING}=evil.X", ["model.weighting: got 'evil.X'", "no subclass of TokenWeighting"]),
    (f"{FIT} {WEIGHTING}=evil.Y", ["model.weighting: got 'evil.Y'", "the module evil has no Y"]),
    (f"{FIT} {WEIGHTING}=torn.X", ["model.weighting: got 'torn.X'", "the module torn cannot be read"]),
    (f"{FIT} {WEIGHTING}=mine.Haf", ["model.weighting: got 'mine.Haf'", "did you mean Half?"]),
    (f"{FIT} {WEIGHTING}=nowhere.X", ["model.weighting: got 'nowhere.X'", "no module 'nowhere'"]),
    (f"{FIT} {WEIGHTING}=torch.optim.AdamW", ["model.weighting: ", "no subclass of TokenWeighting"]),
    (f"{FIT} {WEIGHTING}=os.system", ["model.weighting: got 'os.system'"]),
    (f"{FIT} {WEIGHTING}=mine.Half {WEIGHTING}.weight=2", [
        "model.weighting: mine.Half(weight=2.0) raised RuntimeError: weights above", "REMIT_LIT_TRACEBACK=1",
    ]),
    (f"{SFT} --stage=STF", ["stage: got 'STF'", "did you mean SFT?", "DPO, RLVR, SFT"]),
    (f"{RLVR} --stage.reward=nowhere.x", ["stage.reward: ", "'nowhere.x'", "module.function"]),
    ("select --rows=r --base=a --reference=b --name=c --weighting=ReMit", ["weighting: got 'ReMit'", "mean ReMiT?"]),
    # Paths.
    (f"{FIT} --model.policy.path=lab/bas", ["model.policy.path: got 'lab/bas'", "did you mean lab/base?"]),
    (f"{FIT} --model.policy.path=./modl", ["model.policy.path: './modl'", "did you mean model?"]),
    (f"{FIT} --model.policy.path=a/b/c", ["model.policy.path: 'a/b/c'", "neither a directory nor a hub id"]),
    (f"{FIT} --model.policy.path=model/chekpoint", ["model.policy.path: 'model/chekpoint'", "model/checkpoint?"]),
    (f"{FIT} --model.policy.path=~/nothing-here", ["model.policy.path: '~/nothing-here'", "did you mean /"]),
    (f"{FIT} --model.policy.tokenizer=tok.json", ["model.policy.tokenizer: 'tok.json'", "nor a hub id"]),
    (f"{FIT} --data.prepare=null --data.rows=rosw", ["data.rows: rosw does not exist", "did you mean rows?"]),
    ("score --rows=rosw --model.path=lab/base --column=c", ["rows: rosw holds no rows", "did you mean rows?"]),
    (f"{PREPARE} --sources.a=JsonLines --sources.a.files=fist.yaml", ["sources.a.", "first.yaml?"]),
    (f"{SFT} --chat_template=wild.jinj", ["chat_template: no file 'wild.jinj'", "did you mean wild.jinja?"]),
    (f"{SFT} --chat_template=wild.jinja", ["chat_template: wild.jinja counts too far"]),
    ("evaluate --model.path=lab/base --tasks=[x.jsonl] --output=o", ["tasks: there is no file 'x.jsonl'"]),
    ("export --run=nowhere --output=o", ["run: nowhere does not exist; give the run_dir of a fit"]),
    ("convert --checkpoint=nowhere", ["checkpoint: ", "is not a checkpoint directory"]),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_rows: Path) -> Path:
    directory = tmp_path_factory.mktemp("wrong")
    for name, content in FILES.items():
        (directory / name).write_bytes(content.encode() if isinstance(content, str) else content)
    shutil.copytree(tiny_rows, directory / "rows")
    (directory / "model" / "checkpoint").mkdir(parents=True)
    return directory


@pytest.fixture
def refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], no_weights: None
) -> Callable[[str], str]:
    """The message with which a command line is refused."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)

    def run(command: str) -> str:
        with pytest.raises(SystemExit) as raised:
            main(shlex.split(command))
        said = capsys.readouterr().err
        assert raised.value.code == 2, said
        assert "Traceback" not in said
        return said[said.index("error: ") + len("error: ") :]

    return run


@pytest.mark.parametrize(("command", "words"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_mistake_is_named(command: str, words: list[str], refused: Callable[[str], str], folder: Path) -> None:
    message = refused(command)
    assert message.startswith(words[0]), message
    for word in words[1:]:
        assert word in message, message
    assert not (folder / "imported").exists()


def test_the_table_is_long_enough() -> None:
    assert len({command for command, _ in MISTAKES}) >= 60


def test_files_and_verbs_are_refused_before_anything_heavy_is_imported(folder: Path) -> None:
    heavy = "torch", "lightning", "transformers", "datasets", "matplotlib"
    found = [command for command, words in MISTAKES if words[0].startswith(("config: no", "there is no"))]
    names = [f"fit --config {name}" for name in ("broken.yaml", "list.yaml", "word.yaml", "binary.yaml")]
    commands = [shlex.split(command) for command in (*found, *names)]
    code = f"""
import sys
from remit_lit.cli.dispatch import main
for command in {commands!r}:
    try:
        main(command)
    except SystemExit as stop:
        assert stop.code == 2
    else:
        raise AssertionError(command)
assert not set({heavy!r}) & set(sys.modules), set({heavy!r}) & set(sys.modules)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


def test_a_config_that_is_only_read_imports_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(SystemExit):
        main(shlex.split(TABLE))
    assert "error: mine-0: model.weighting: got 'evil.X'" in capsys.readouterr().err
    main(["configs", "--show=table.yaml"])
    assert "evil.X" in capsys.readouterr().out
    assert "evil" not in sys.modules and not (folder / "imported").exists()


def test_a_traceback_is_shown_where_it_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("REMIT_LIT_TRACEBACK", "1")
    with pytest.raises(ValueError, match="weights above one explode"):
        main(shlex.split(f"{FIT} {WEIGHTING}=mine.Half {WEIGHTING}.weight=2"))
