"""Attention in bfloat16 without gradients is two products, and the fused kernel where those would not do."""

import numpy as np
import pytest
import torch
from torch import nn

from rankscale_utils.models import flat_attention
from rankscale_utils.models.flat_attention import attend
from rankscale_utils.models.flat_batch import Sequences

LENGTHS = np.array([3, 14, 9, 9])
SEQUENCES = Sequences.of(LENGTHS, 14, np.array([1, 2, 1, 2]))


@pytest.fixture
def fused(monkeypatch):
    """Let the products be taken on any CPU; return a list that grows at each use of the fused kernel."""
    kernel, uses = flat_attention.FUSED, []

    def counted(*given, **settings):
        uses.append(given[0].dtype)
        return kernel(*given, **settings)

    monkeypatch.setattr(flat_attention, "has_bf16", lambda: True)
    monkeypatch.setattr(flat_attention, "FUSED", counted)
    return uses


def parts(spread=1.0):
    """Return random queries, keys and values that are whole in bfloat16: (1, heads, tokens, size)."""
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(1, 4, LENGTHS.sum(), 8, generator=generator) for _ in range(3)]
    return [(part * factor).bfloat16() for part, factor in zip(made, (spread, spread, 1.0), strict=True)]


def of_both(given, prefix=False, **settings):
    """Return what is attended in bfloat16 and in float32."""
    query, key, value = given
    if prefix:
        query = query[:, :, SEQUENCES.prefixes]
    found = [
        attend(nn.Module(), *(part.to(dtype) for part in (query, key, value)), None, SEQUENCES, **settings)[0]
        for dtype in (torch.bfloat16, torch.float32)
    ]
    return found[0].float(), found[1]


@pytest.mark.parametrize("prefix", [False, True])
@torch.inference_mode()
def test_products_in_bfloat16_attend_as_float32_does(fused, prefix):
    found, exact = of_both(parts(), prefix)
    assert set(fused) == {torch.float32}
    assert found.shape == exact.shape
    assert 1e-5 < (found - exact).abs().max() < 0.03


@torch.inference_mode()
def test_the_scale_that_is_asked_for_is_taken(fused):
    found, exact = of_both(parts(), scaling=0.1)
    assert (found - exact).abs().max() < 0.02


@pytest.mark.parametrize("sign", [1, -1])
@torch.inference_mode()
def test_exponentials_beyond_bfloat16_are_left_to_the_fused_kernel(fused, sign):
    query, key, value = parts(0.1)
    query, key = query + 16, key + 16 * sign  # all scores are near 700, or near -700
    found, exact = of_both((query, key, value))
    assert torch.bfloat16 in fused
    assert (found - exact).abs().max() < 0.05


@torch.inference_mode()
def test_windows_are_left_to_the_fused_kernel_where_they_hide_anything(fused):
    found, exact = of_both(parts(), sliding_window=5)
    assert fused.count(torch.bfloat16) == 2  # groups of 9 and of 14 tokens; that of 3 sees everything
    assert (found - exact).abs().max() < 0.03


def test_training_keeps_the_fused_kernel(fused):
    query, key, value = (part.requires_grad_() for part in parts())
    attend(nn.Module(), query, key, value, None, SEQUENCES)[0].sum().backward()
    assert set(fused) == {torch.bfloat16}
    assert query.grad.isfinite().all()
