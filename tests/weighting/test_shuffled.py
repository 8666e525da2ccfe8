import pytest
import torch

from remit_lit.weighting import ReMiT, ShuffledReMiT
from tests.weighting import slow


@pytest.mark.parametrize("settings", [{}, {"epsilon": 0.5}, {"clip": False}, {"center": "segment"}], ids=str)
def test_each_row_keeps_remits_weights_on_other_tokens(settings):
    signals = slow.random_signals(0)
    original, shuffled = ReMiT(**settings).weights(signals), ShuffledReMiT(**settings).weights(signals)
    assert not torch.equal(original, shuffled)
    for row, ranked in enumerate(signals.ranked):
        assert torch.equal(original[row][ranked].sort().values, shuffled[row][ranked].sort().values)
        assert torch.equal(original[row][~ranked], shuffled[row][~ranked])


def test_the_order_is_drawn_from_torchs_generator():
    signals, found = slow.random_signals(0), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(ShuffledReMiT().weights(signals))
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_every_token_takes_every_weight():
    signals = slow.random_signals(0)
    torch.manual_seed(0)
    mean = torch.stack([ShuffledReMiT(clip=False).weights(signals) for _ in range(2000)]).double().mean(0)
    original = ReMiT(clip=False).weights(signals).double()
    for row, ranked in enumerate(signals.ranked):
        if not ranked.any():
            continue
        expected, spread = original[row][ranked].mean(), original[row][ranked].std(correction=0)
        assert (mean[row][ranked] - expected).abs().max() <= 1e-6 + 5 * spread / 2000**0.5
