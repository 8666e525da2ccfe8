"""Token-weighting strategies: scores of tokens in, weights of tokens out. They know tensors only."""

from remit_lit.weighting.base import RowScores, TokenSignals, TokenWeighting
from remit_lit.weighting.dft import DFT
from remit_lit.weighting.eslm import ESLM
from remit_lit.weighting.long_range import LongRange
from remit_lit.weighting.miniplm import MiniPLM
from remit_lit.weighting.ntp import NextTokenPrediction
from remit_lit.weighting.remit import ReMiT
from remit_lit.weighting.rho1 import Rho1
from remit_lit.weighting.rlsd import RLSD
from remit_lit.weighting.shuffled import ShuffledReMiT
from remit_lit.weighting.token_filter import TokenFilter

__all__ = [
    "DFT",
    "ESLM",
    "RLSD",
    "LongRange",
    "MiniPLM",
    "NextTokenPrediction",
    "ReMiT",
    "Rho1",
    "RowScores",
    "ShuffledReMiT",
    "TokenFilter",
    "TokenSignals",
    "TokenWeighting",
]
