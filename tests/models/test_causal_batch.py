"""Causal flat batches: what stands where, and that sequences which begin alike share their beginning."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from rankscale_utils.models.causal_batch import CausalBatch, CausalGroup
from rankscale_utils.models.decoder import DecoderReranker
from tests.models.tiny_decoders import decoder_config

IDS = np.array([[5, 6, 7, 8, 0], [5, 6, 9, 0, 0], [5, 7, 1, 2, 3], [5, 6, 0, 0, 0]])
LENGTHS = np.array([4, 3, 5, 2])


def test_a_beginning_stands_once_and_what_follows_reads_it():
    batch = CausalBatch.of(IDS, LENGTHS, shared=np.array([2, 2, 2, 2]), read=LENGTHS)
    assert batch.groups == (CausalGroup(1, 0, 2), CausalGroup(1, 0, 5), CausalGroup(1, 2, 1), CausalGroup(1, 2, 2))
    assert batch.flat(torch.from_numpy(IDS)).tolist() == [[5, 6, 5, 7, 1, 2, 3, 9, 7, 8]]
    assert batch.positions.tolist() == [0, 1, 0, 1, 2, 3, 4, 2, 2, 3]
    assert batch.keys.tolist() == [0, 1, 7, 0, 1, 8, 9]
    assert batch.last.tolist() == [9, 7, 6, 1]  # the last sequence is its beginning alone
    assert batch.alone == 7


def test_nothing_is_shared_where_nothing_begins_alike_or_may_be():
    for shared in (np.zeros(4, int), np.array([2, 0, 2, 0])):
        batch = CausalBatch.of(IDS, LENGTHS, shared, LENGTHS)
        assert [group.shared for group in batch.groups] == [0, 0, 0, 0]
        assert len(batch.taken) == LENGTHS.sum()
        assert len(batch.keys) == 0


@pytest.mark.parametrize("settings", [{}, {"sliding_window": 7}])
@pytest.mark.parametrize("training", [False, True])
def test_shared_beginnings_change_no_score_and_no_gradient(settings, training):
    torch.manual_seed(0)
    config = decoder_config("mistral", 16, 300, num_labels=1, pad_token_id=0, **settings)
    model = DecoderReranker.of(AutoModelForSequenceClassification.from_config(config)).train(training)
    ids = torch.randint(1, 300, (8, 30))
    ids[:5, :11], ids[5:7, :4] = ids[0, :11], ids[5, :4]
    lengths = torch.tensor([30, 14, 11, 14, 29, 6, 4, 30])
    mask = (torch.arange(30) < lengths[:, None]).long()
    found = {}
    for shared in (None, torch.tensor([11] * 5 + [4] * 3)):
        inputs = model.inputs(ids, mask, None, shared)
        scores = model(inputs)
        model.zero_grad()
        (scores * torch.arange(8)).sum().backward()
        gradients = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
        found[shared is not None] = scores.detach(), gradients, inputs.ids.shape[1]
    assert (found[False][2], found[True][2]) == (lengths.sum(), lengths.sum() - 4 * 11 - 4)
    torch.testing.assert_close(found[True][0], found[False][0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[True][1], found[False][1], atol=1e-4, rtol=1e-4)
    alone = torch.cat([model(ids[row : row + 1], mask[row : row + 1]) for row in range(8)])
    torch.testing.assert_close(alone.detach(), found[True][0], atol=1e-5, rtol=0)
