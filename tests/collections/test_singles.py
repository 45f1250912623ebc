import numpy as np
import pytest
import torch

from rankscale_utils.collections.singles import Singles, token_shares
from rankscale_utils.collections.tokens import StudyTokenizer, Texts, train_tokenizer

TEXTS = Texts(np.array([10, 11, 12, 13, 20, 20, 21], np.int32), np.array([0, 4, 5, 7]))


@pytest.fixture(scope="module")
def tokenizer():
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return StudyTokenizer(train_tokenizer(["count the apples and the pears"], 256), special, 60)


def test_texts_stand_between_the_special_tokens_and_are_cut(tokenizer):
    batch = Singles(TEXTS, tokenizer, 5).batch(np.array([1, 0, 2]))
    cls, sep, pad = tokenizer.cls, tokenizer.sep, tokenizer.pad
    expected = [[cls, 20, sep, pad, pad], [cls, 10, 11, 12, sep], [cls, 20, 21, sep, pad]]
    assert batch.input_ids.tolist() == expected
    assert torch.equal(batch.attention_mask, (batch.input_ids != pad).long())


def test_lengths_are_those_of_the_batch(tokenizer):
    singles = Singles(TEXTS, tokenizer, 5)
    rows = np.array([2, 1, 0, 0])
    assert singles.lengths(rows).tolist() == singles.batch(rows).attention_mask.sum(1).tolist() == [4, 3, 5, 5]


def test_shares_count_every_token_once_more_and_special_ones_are_everywhere(tokenizer):
    shares = token_shares([TEXTS, TEXTS], tokenizer)
    assert shares[20] == pytest.approx((4 + 1) / (14 + len(shares)))
    assert shares[9] == pytest.approx(1 / (14 + len(shares)))
    assert shares[[tokenizer.pad, tokenizer.cls, tokenizer.sep]].tolist() == [1, 1, 1]
