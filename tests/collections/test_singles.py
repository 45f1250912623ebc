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
    cls, sep, pad = 2, 3, tokenizer.pad
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
    assert shares[[tokenizer.pad, 2, 3]].tolist() == [1, 1, 1]


def test_other_special_tokens_leave_more_room_for_the_text(tokenizer):
    rows, sep, pad = np.array([1, 0]), 3, tokenizer.pad
    ended, bare = (Singles(TEXTS, tokenizer, 3, around) for around in ("end", "none"))
    assert ended.batch(rows).input_ids.tolist() == [[20, sep, pad], [10, 11, sep]]
    assert bare.batch(rows).input_ids.tolist() == [[20, pad, pad], [10, 11, 12]]
    for singles in (ended, bare):
        assert singles.lengths(rows).tolist() == singles.batch(rows).attention_mask.sum(1).tolist()


def test_texts_are_written_as_their_batches_have_them(tokenizer, monkeypatch):
    monkeypatch.setattr("rankscale_utils.collections.singles.TEXTS_CUT_TOGETHER", 2)
    written = Singles(TEXTS, tokenizer, 3, "end").written(np.array([2, 0, 1]))
    sep = 3
    assert written.ids.tolist() == [20, 21, sep, 10, 11, sep, 20, sep]
    assert written.starts.tolist() == [0, 3, 6, 8]
    assert written.ids.dtype == np.int32
