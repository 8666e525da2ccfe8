"""The table of verbs, in plain data: the command line, the job scheduler and the documentation read it.

A new verb is an entry here and the function that it names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from remit_lit.errors import ConfigError

_MODELS = ("torch", "transformers", "tokenizers")
_LATE = ("transformers.modeling_utils", "transformers.masking_utils")  # with the first model
MODEL, RESUME = "model.path", "resume"
"""What every verb calls the model that it works on, and the field with which an interrupted command goes on."""
_OF_POLICY = {MODEL: "model.policy.path", "model.revision": "model.policy.revision"}


@dataclass(frozen=True)
class Verb:
    """What is known of a verb before anything of it is imported.

    Attributes:
        purpose: one line for people.
        function: ``module:name``. Its parameters are the verb's fields, and what it returns is printed.
        parses: the function takes the verb and the command line's arguments instead, and reads them itself.
        output: the field that says where the result goes; empty where a verb leaves none that a job could keep.
        file: name of the result's file in its folder; empty where the result is the folder.
        holds: JSON files that a whole result has, where it is a folder.
        packages: distributions whose versions decide the result's digits.
        late: modules that it imports only once its fields are right, which takes seconds.
        resume: fields with which an interrupted command goes on, for which ``resume: true`` stands; None: it starts
            anew in an empty folder.
        names: the verb's own fields by the names that all verbs share.
        as_job: fields that a job gives, which decide nothing of what it is run for.
        repeats: other commands may come after it in its process; it leaves nothing there that they would feel.
        ranks: what several processes can run one command on: each on its own GPU, or with workers on its own node.
        launches: one command can be sent to a cluster.
        extra: the package's optional dependencies that the verb needs.
    """

    purpose: str
    function: str
    parses: bool = False
    output: str = ""
    file: str = ""
    holds: tuple[str, ...] = ()
    packages: tuple[str, ...] = _MODELS
    late: tuple[str, ...] = ()
    resume: Mapping[str, Any] | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    as_job: Mapping[str, Any] = field(default_factory=dict)
    repeats: bool = False
    ranks: Literal["", "gpus", "nodes"] = ""
    launches: bool = False
    extra: str = ""

    @property
    def shared(self) -> tuple[str, ...]:
        """The names that stand for others of its own."""
        return (*self.names, *(() if self.resume is None or RESUME in self.resume else (RESUME,)))

    def own(self, name: str, value: Any) -> dict[str, Any]:
        """A field and its value by the verb's own names.

        Args:
            name: dotted.
            value: as YAML or a command line has it.
        """
        if name not in self.shared:
            return {name: value}
        if name != RESUME:
            return {self.names[name]: value}
        if str(value).lower() not in ("true", "false"):
            raise ConfigError(f"{RESUME}: got {value!r}; give true or false")
        return dict(self.resume or {}) if str(value).lower() == "true" else {}


VERBS: dict[str, Verb] = {
    "fit": Verb(
        "mid-train a policy with a token-weighting strategy",
        "remit_lit.cli.training:run_trainer",
        parses=True,
        late=_LATE,
        output="run_dir",
        holds=("run.json", "model/config.json"),
        packages=(*_MODELS, "lightning", "datasets"),
        resume={"ckpt_path": "last"},
        names=_OF_POLICY,
        as_job={"report": False},
        repeats=True,
        ranks="gpus",
    ),
    "validate": Verb(
        "measure the loss per source on the validation rows",
        "remit_lit.cli.training:run_trainer",
        parses=True,
        names=_OF_POLICY,
    ),
    "test": Verb(
        "the same as validate, logged as test", "remit_lit.cli.training:run_trainer", parses=True, names=_OF_POLICY
    ),
    "estimate": Verb(
        "memory, disk and time of a fit before it starts",
        "remit_lit.cli.unrun:run_estimate",
        parses=True,
        names=_OF_POLICY,
    ),
    "prepare": Verb(
        "pack text into rows of tokens",
        "remit_lit.cli.preparation:run_prepare",
        parses=True,
        output="output",
        holds=("manifest.json",),
        packages=("transformers", "tokenizers", "datasets"),
        resume={},
        repeats=True,
        ranks="nodes",
        launches=True,
    ),
    "score": Verb(
        "write a frozen model's NLLs, entropies or most likely tokens as columns beside the rows",
        "remit_lit.reference.score:score",
        late=(*_LATE, "lightning.fabric"),
        output="output",
        resume={},
        ranks="gpus",
        launches=True,
    ),
    "select": Verb(
        "choose rows to train on from two such columns (MiniPLM), and write them as a subset beside the rows",
        "remit_lit.reference.subsets:select",
    ),
    "posttrain": Verb(
        "one stage of post-training: SFT, DPO or RLVR",
        "remit_lit.posttraining.posttrain:posttrain",
        late=_LATE,
        output="run_dir",
        holds=("run.json", "model/config.json"),
        packages=(*_MODELS, "trl", "datasets", "math-verify"),
        resume={"resume": True},
        extra="posttrain",
        launches=True,
    ),
    "agreement": Verb(
        "compare a model with a reference on prepared rows: KL and top-1 agreement",
        "remit_lit.evaluation.agreement:agreement",
        late=(*_LATE, "lightning.fabric"),
        output="output",
        file="evaluation.json",
    ),
    "inspect": Verb(
        "show which tokens strategies raise and lower, in one HTML file",
        "remit_lit.cli.inspection:run_inspect",
        parses=True,
        output="output",
        file="weights.html",
        names=_OF_POLICY,
    ),
    "evaluate": Verb(
        "measure a model on benchmarks, and keep the outcome of every item",
        "remit_lit.evaluation.evaluate:evaluate",
        late=(*_LATE, "lightning.fabric"),
        output="output",
        file="evaluation.json",
        packages=(*_MODELS, "lm_eval", "datasets", "math-verify"),
        extra="evaluation",
        launches=True,
    ),
    "table": Verb(
        "compare methods over seeds: run what is missing, and show the results with error bars",
        "remit_lit.cli.studies:run_table",
        parses=True,
        resume={},
        extra="evaluation",
    ),
    "figure": Verb(
        "draw a figure of the paper from a table's runs, and say whether ours agrees with what the paper found",
        "remit_lit.cli.studies:run_figure",
        parses=True,
        resume={},
        extra="evaluation",
    ),
    "flywheel": Verb(
        "rounds of mid-training and post-training, each with the last RL-tuned model as the reference",
        "remit_lit.cli.studies:run_flywheel",
        parses=True,
        resume={},
        extra="evaluation",
    ),
    "report": Verb(
        "show what runs logged and found, one or several overlaid, in one HTML file",
        "remit_lit.cli.reporting:run_report",
        parses=True,
    ),
    "export": Verb(
        "write a run's checkpoint as a Hugging Face directory", "remit_lit.models.export:export", names={MODEL: "run"}
    ),
    "average": Verb(
        "average the weights of several models, e.g. of runs on different orders of the data (model soups)",
        "remit_lit.models.average:average",
        output="output",
        holds=("config.json", "average.json"),
        names={MODEL: "models"},
        packages=(*_MODELS, "safetensors"),
        repeats=True,
    ),
    "convert": Verb(
        "make a ZeRO checkpoint one that any number of ranks can go on from",
        "remit_lit.runs.convert:convert",
        names={MODEL: "checkpoint"},
        extra="deepspeed",
    ),
    "configs": Verb(
        "list the configs that come with the package, show one, or copy them all",
        "remit_lit.configs:browse",
    ),
    "strategies": Verb("list the token-weighting strategies", "remit_lit.weighting.listing:strategies"),
    "tasks": Verb("list the tasks that evaluate measures", "remit_lit.benchmarks.listing:tasks"),
}
