import numpy as np
import pytest
import torch

from rankscale_utils.collections.singles import Singles, token_shares
from rankscale_utils.collections.tokens import CLS, PAD, SEP, Texts

TEXTS = Texts(np.array([10, 11, 12, 13, 20, 20, 21], np.int32), np.array([0, 4, 5, 7]))


def test_texts_stand_between_the_special_tokens_and_are_cut():
    batch = Singles(TEXTS, 5).batch(np.array([1, 0, 2]))
    expected = [[CLS, 20, SEP, PAD, PAD], [CLS, 10, 11, 12, SEP], [CLS, 20, 21, SEP, PAD]]
    assert batch.input_ids.tolist() == expected
    assert torch.equal(batch.attention_mask, (batch.input_ids != PAD).long())


def test_lengths_are_those_of_the_batch():
    singles = Singles(TEXTS, 5)
    rows = np.array([2, 1, 0, 0])
    assert singles.lengths(rows).tolist() == singles.batch(rows).attention_mask.sum(1).tolist() == [4, 3, 5, 5]


def test_shares_count_every_token_once_more_and_special_ones_are_everywhere():
    shares = token_shares([TEXTS, TEXTS], 22)
    assert shares[20] == pytest.approx((4 + 1) / (14 + 22))
    assert shares[9] == pytest.approx(1 / 36)
    assert shares[[PAD, CLS, SEP]].tolist() == [1, 1, 1]
