"""What a logged figure is called, for people: the titles of axes, panels and tables."""

import re

_NLL = "NLL, nats a token"
_KNOWN = {
    "train/loss": "loss that is minimised, nats a token",
    "loss": "loss that is minimised",
    "train/nll": f"training {_NLL}",
    "train/nll_content": "training NLL of content tokens, nats a token",
    "train/nll_special": "training NLL of special tokens, nats a token",
    "val/nll": f"validation {_NLL}",
    "train/learning_rate": "learning rate",
    "train/grad_norm": "gradient norm before clipping",
    "grad_norm": "gradient norm before clipping",
    "weights/mean": "mean weight of a token",
    "weights/std": "standard deviation of the weights",
    "weights/clipped_low": "share of tokens clipped low",
    "weights/clipped_high": "share of tokens clipped high",
    "weights/effective_share": "effective share of tokens",
    "weights/kl_to_data": "KL of the weighted data to the data, nats",
    "weights/excess_loss": "excess loss over the reference, nats a token",
    "weights/row_delta_mean": "mean excess loss of a row, nats a token",
    "weights/row_delta_std": "standard deviation of rows' excess loss, nats a token",
    "tokens_per_second": "tokens a second",
    "tokens_seen": "tokens trained on",
    "num_tokens": "tokens trained on",
    "mfu": "model FLOP/s utilisation",
    "step_time": "seconds a step",
    "entropy": "entropy of a token, nats",
}
_PREFIXES = {
    "train/nll/": "training NLL of {}, nats a token",
    "val/nll/": "validation NLL of {}, nats a token",
    "test/nll/": "test NLL of {}, nats a token",
    "lab/nll_": "lab, NLL of {}, nats",
    "lab/weight_": "lab, mean weight of {}",
}
_SHARES = re.compile(
    r"accurac|probability|agreement|effective_share|clipped_(low|high|ratio)|exact_match|pass@|^mfu$|^frac_"
)


def title_of(figure: str) -> str:
    """In words, with the unit where it is known: ``train/grad_norm`` is ``gradient norm before clipping``."""
    if figure in _KNOWN:
        return _KNOWN[figure]
    for prefix, words in _PREFIXES.items():
        if figure.startswith(prefix):
            return words.format(_spaced(figure.removeprefix(prefix)))
    return ", ".join(_spaced(part) for part in figure.split("/"))


def is_share(figure: str) -> bool:
    """Whether it lies from 0 to 1 by what it is, and not only by what a run found."""
    return _SHARES.search(figure) is not None


def _spaced(name: str) -> str:
    return name.replace("_", " ").strip()
