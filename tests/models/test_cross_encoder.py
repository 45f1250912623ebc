import math

import numpy as np
import pytest
import torch
from torch import nn

from rankscale_utils.models.build import build_model
from rankscale_utils.models.cross_encoder import CrossEncoder, initialise_cross_encoder

ARCHITECTURES = ("bert", "modernbert")
ROWS = np.arange(24), np.arange(24) * 7


@pytest.fixture(params=ARCHITECTURES)
def study(request, new_study):
    return new_study(architecture=request.param)


def model_of(study, collection, rung="w8", head=True):
    model = build_model(study, study.run(f"listwise-{rung}-s0"), collection.tokenizer().get_vocab_size()).eval()
    if head:  # a new head is zero, and scores that are all the same would show nothing
        nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    return model


@torch.no_grad()
def test_scores_depend_neither_on_padding_nor_on_neighbours(study, collection):
    model, pairs = model_of(study, collection), collection.pairs()
    together = model(*pairs.batch(*ROWS))
    alone = torch.cat([model(*pairs.batch(ROWS[0][[row]], ROWS[1][[row]])) for row in range(24)])
    lengths = pairs.lengths(*ROWS)
    assert lengths.min() < lengths.max()
    assert together.std() > 0.01
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@torch.no_grad()
def test_what_stands_in_the_padding_does_not_matter(study, collection):
    model, batch = model_of(study, collection), collection.pairs().batch(*ROWS)
    noise = torch.randint(4, 500, batch.input_ids.shape, generator=torch.Generator().manual_seed(1))
    other = torch.where(batch.attention_mask == 1, batch.input_ids, noise)
    assert not torch.equal(other, batch.input_ids)
    scores = (model(ids, batch.attention_mask, batch.token_type_ids) for ids in (batch.input_ids, other))
    torch.testing.assert_close(*scores, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_score_reads_the_mean_of_the_querys_states(study, collection):
    model = model_of(study, collection)
    batch = collection.pairs().batch(ROWS[0][:1], ROWS[1][:1])
    segments = {"token_type_ids": batch.token_type_ids} if study.architecture == "bert" else {}
    states = model.encoder(input_ids=batch.input_ids, attention_mask=batch.attention_mask, **segments).last_hidden_state
    query = states[0, batch.token_type_ids[0] == 0].mean(0)
    expected = query @ model.head.weight[0] + model.head.bias[0]
    torch.testing.assert_close(model(*batch)[0], expected)
    whole = model(batch.input_ids, batch.attention_mask)  # without segments every token is averaged
    assert not torch.allclose(whole[0], expected, atol=1e-4)


@torch.no_grad()
def test_query_and_document_are_told_apart(study, collection):
    model, batch = model_of(study, collection), collection.pairs().batch(*ROWS)
    swapped = batch._replace(token_type_ids=(1 - batch.token_type_ids) * batch.attention_mask, of_query=None)
    assert (model(*batch) - model(*swapped)).abs().max() > 0.01


def attention_to_copies(model, samples=20):
    """Return the first layer's mean attention of four query tokens to their copies, in units of an even share."""
    generator, shares, places = torch.Generator().manual_seed(2), [], torch.arange(4)
    model.encoder.set_attn_implementation("eager")
    for _ in range(samples):
        words = 4 + torch.randperm(400, generator=generator)[:16]
        query, others = words[:4], words[4:]
        ids = torch.cat([torch.tensor([2]), query, torch.tensor([3]), others, query, torch.tensor([3])])[None]
        types = (torch.arange(ids.shape[1]) >= 6).long()[None]
        segments = {"token_type_ids": types} if model.reads_segments else {}
        out = model.encoder(input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True, **segments)
        attention = out.attentions[0][0].mean(0)
        shares.append(attention[1 + places, 18 + places].mean() * ids.shape[1])
    return torch.stack(shares).mean().item()


@torch.no_grad()
@pytest.mark.parametrize("rung", ["w8", "w12"])
def test_a_new_model_attends_to_the_copies_of_a_querys_words(study, collection, rung):
    model = model_of(study, collection, rung)
    plain = CrossEncoder(type(model.encoder)(model.encoder.config)).eval()
    assert attention_to_copies(plain) == pytest.approx(1, abs=0.1)
    at_least = {"bert": 4, "modernbert": 1.5}  # rotary positions take from ModernBERT's match what lies far apart
    assert attention_to_copies(model) > at_least[study.architecture]


@torch.no_grad()
def test_a_new_model_scores_every_pair_at_the_log_odds_of_the_prior(study, collection):
    model = model_of(study, collection, head=False)
    scores = model(*collection.pairs().batch(*ROWS))
    torch.testing.assert_close(scores, torch.full((24,), math.log((1 / 3) / (2 / 3))))  # groups of three


def test_the_same_seed_gives_the_same_weights(study, collection):
    one, other = (model_of(study, collection, head=False).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    seeded = [initialise_cross_encoder(model_of(study, collection), seed=5).state_dict() for _ in range(2)]
    assert all(torch.equal(seeded[0][name], seeded[1][name]) for name in one if not name.startswith("head.weight"))


def test_runs_start_from_different_weights(new_study, collection):
    rate = {"base": 0.001}
    study = new_study(
        objectives={"listwise": {"seeds": [0, 1], "learning_rate": rate}, "pointwise": {"learning_rate": rate}}
    )
    starts = [
        build_model(study, study.run(name), 512).encoder.get_input_embeddings().weight
        for name in ("listwise-w8-s0", "listwise-w8-s1", "pointwise-w8-s0")
    ]
    assert not torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
