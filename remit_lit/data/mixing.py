"""How much of each source is taken: the shares of a mix, and stages with mixes of their own."""

from collections.abc import Mapping
from dataclasses import dataclass

from remit_lit.errors import ConfigError, did_you_mean, require_range


@dataclass(frozen=True)
class Stage:
    """A part of training with a mix of its own.

    Attributes:
        num_tokens: tokens of the stage; null takes as many as the mix allows, where there is one stage only.
        mix: share of tokens from each source; of several stages, one may leave out a source. null takes every document.
    """

    num_tokens: int | None = None
    mix: dict[str, float] | None = None

    def got(self, taken: Mapping[str, int]) -> dict[str, str]:
        """What each source got against its share, in words; nothing of a source where there are no shares.

        Args:
            taken: tokens of each source, of which the last document goes past the share.
        """
        if self.mix is None:
            return {}
        total, said = sum(taken.values()), {}
        for name, tokens in taken.items():
            share = self.mix.get(name, 0.0)
            said[name] = f"{100 * tokens / total:.2f} % for a share of {100 * share:g} %"
            if self.num_tokens is not None:
                said[name] += f", {tokens - int(self.num_tokens * share):,} tokens more than asked for"
        return said


def check_mix(field: str, mix: dict[str, float], sources: list[str], *, of_all: bool) -> None:
    """Refuse shares that cannot work.

    Args:
        field: dotted path of the mix.
        mix: share of tokens from each source.
        sources: names of all sources.
        of_all: whether each source must have a share.

    Raises:
        ConfigError: naming the field, what it got and what would be right.
    """
    odd = sorted(set(mix) - set(sources))
    if odd or not mix or (of_all and set(mix) != set(sources)):
        near = did_you_mean(odd[0], sources) if odd else ""
        those = "all" if of_all else "some of them"
        raise ConfigError(f"{field}: names {sorted(mix)}, but sources are {sorted(sources)}; {near}give {those}")
    for name, share in mix.items():
        require_range(f"{field}.{name}", share, 0.0, 1.0)
    if abs(sum(mix.values()) - 1) > 1e-6:
        raise ConfigError(f"{field}: shares sum to {sum(mix.values()):g}; they must sum to 1")
