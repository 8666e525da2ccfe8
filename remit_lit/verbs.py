"""The table of verbs."""

VERBS = {
    "fit": "mid-train a policy with a token-weighting strategy",
    "validate": "loss per source of a policy or checkpoint on the validation rows",
    "test": "the same, logged as test",
    "estimate": "memory, disk and time of a fit before it starts",
    "prepare": "text to packed rows",
    "score": "NLLs of a frozen model, as a column beside the rows",
    "select": "rows to train on by two such columns (MiniPLM), as a subset beside the rows",
    "posttrain": "a stage of post-training: SFT, DPO or RLVR",
    "agreement": "how near a model is to a reference on prepared rows: KL and top-1 agreement",
    "table": "methods by seeds: runs what is missing, and shows what was found with error bars",
    "evaluate": "a model on benchmarks, with the outcome of every item",
    "flywheel": "rounds of mid-training and post-training, each with the last RL-tuned model as the reference",
    "export": "a run's checkpoint to a Hugging Face directory",
    "convert": "a ZeRO checkpoint to one that any number of ranks can go on from",
}


# Verbs that are a function, whose parameters are the fields.
_FUNCTIONS = {
    "score": "remit_lit.reference.score:score",
    "select": "remit_lit.reference.subsets:select",
    "agreement": "remit_lit.evaluation.agreement:agreement",
    "posttrain": "remit_lit.posttraining.posttrain:posttrain",
    "evaluate": "remit_lit.evaluation.evaluate:evaluate",
    "export": "remit_lit.models.export:export",
    "convert": "remit_lit.runs.convert:convert",
}


# Modules that come with an extra, by the extra's name.
_EXTRAS = dict.fromkeys(("lm_eval", "math_verify", "scipy"), "evaluation") | {"trl": "posttrain"}
