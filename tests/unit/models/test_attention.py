"""The softmax of short rows is a softmax, forward and backward."""

from __future__ import annotations

import pytest
import torch

from foliocast.models.attention import EncoderBlock, ShortSoftmax


@pytest.mark.parametrize("entries", [1, 7, 32])
def test_short_softmax_is_a_softmax(entries: int) -> None:
    scores = 5.0 * torch.randn(40, 3, entries, dtype=torch.float64, generator=torch.Generator().manual_seed(entries))
    scores[0, 0, 0] = 70.0  # nearly all the weight
    torch.testing.assert_close(ShortSoftmax.apply(scores), torch.softmax(scores, dim=-1))


def test_short_softmax_has_the_gradient_of_a_softmax() -> None:
    scores = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(ShortSoftmax.apply, (scores,))


def test_hopeless_scores_stay_finite() -> None:
    scores = torch.tensor([[0.0, 1e4, -1e4]])
    torch.testing.assert_close(ShortSoftmax.apply(scores), torch.tensor([[0.0, 1.0, 0.0]]))


def test_attention_over_all_equals_attention_over_those_present() -> None:
    """With every token present, the masked and the plain way give the same."""
    block = EncoderBlock(16, 4).double()
    x = torch.randn(3, 7, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(block(x), block(x, torch.ones(3, 7, dtype=torch.bool)))
