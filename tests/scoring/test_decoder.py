import pytest
import torch

from rankscale_utils.scoring.cross_attention import WAYS, CandidateGroup, Candidates
from rankscale_utils.scoring.decoder import DecoderScorer, distance_buckets, project
from rankscale_utils.study.objectives import SCORES
from tests.models.ed2lm_models import VARIANTS, padded, tiny

LENGTHS = [9, 24, 1, 10, 23]
QUERY = padded([20], seed=3)[0][0]  # longer than the position bias tells distances apart


@pytest.fixture(params=VARIANTS)
def model(request):
    return tiny(request.param)


def candidates(model, way, lengths=LENGTHS, pooling=1, split=3, seed=1):
    """Return documents as two groups, the second first, so that the order is none of the caller's."""
    ids, mask = padded(lengths, seed)
    states, mask = model.encode(ids, mask, pooling)
    parts = project(model, states).permute(2, 0, 1, 3) if way == "stored" else states.unsqueeze(0)
    hidden = mask.bool()[:, None, None]
    groups = [CandidateGroup(parts[:, split:], hidden[split:]), CandidateGroup(parts[:, :split], hidden[:split])]
    return Candidates(groups, torch.tensor([*range(split, len(lengths)), *range(split)]))


def in_full(model, kind, query=QUERY, lengths=LENGTHS, pooling=1):
    query = query.expand(len(lengths), -1)
    return model(*padded(lengths), query, torch.ones_like(query), pooling).scores(kind)


@torch.no_grad()
@pytest.mark.parametrize("kind", SCORES)
@pytest.mark.parametrize("way", WAYS)
def test_scores_equal_the_full_encoder_decoders(model, way, kind):
    expected = in_full(model, kind)
    assert expected.std() > 0.01
    for tokens in (1, 20):
        scores = DecoderScorer(model, way).score(QUERY[:tokens], candidates(model, way), kind)
        # A log-likelihood of −100 has steps of 8e-6 in fp32, hence the relative part.
        torch.testing.assert_close(scores, in_full(model, kind, QUERY[:tokens]), atol=1e-5, rtol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pooling", [2, 4])
def test_pooled_scores_equal_the_full_models_over_pooled_states(way, pooling):
    model = tiny("v1.1")
    scores = DecoderScorer(model, way).score(QUERY, candidates(model, way, pooling=pooling))
    torch.testing.assert_close(scores, in_full(model, "true_false", pooling=pooling), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("way", WAYS)
def test_a_document_feels_no_other(way):
    model = tiny()
    scorer, whole = DecoderScorer(model, way), candidates(model, way)
    scores = scorer.score(QUERY, whole, "both")
    for group in whole.groups:  # what the padding holds, and what the neighbours are, must not matter
        group.parts.masked_fill_(~group.mask[:, 0, 0, :, None].expand_as(group.parts[0]), 1e4)
    torch.testing.assert_close(scorer.score(QUERY, whole, "both"), scores, atol=1e-5, rtol=1e-6)
    for place, length in enumerate(LENGTHS):
        group = whole.groups[place < 3]
        own = CandidateGroup(group.parts[:, [place % 3], :length], None)
        alone = scorer.score(QUERY, Candidates([own], torch.tensor([0])), "both")
        torch.testing.assert_close(alone[0], scores[place], atol=1e-5, rtol=1e-6)


@torch.no_grad()
def test_half_precision_comes_close():
    model = tiny()
    documents = candidates(model, "absorbed")
    exact = DecoderScorer(model).score(QUERY, documents)
    halved = Candidates([g._replace(parts=g.parts.bfloat16()) for g in documents.groups], documents.order)
    near = DecoderScorer(model, dtype=torch.bfloat16).score(QUERY, halved)
    assert near.dtype == torch.float32
    assert 0 < (near - exact).abs().max() < 0.1


@torch.no_grad()
def test_scoring_leaves_model_and_documents_as_they_were(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for way in WAYS:
        documents, scorer = candidates(model, way), DecoderScorer(model, way)
        first, again = scorer.score(QUERY, documents, "both"), scorer.score(QUERY, documents, "both")
        assert torch.equal(first, again)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_distance_buckets_are_exact_up_to_half_then_logarithmic():
    buckets = distance_buckets(torch.tensor([0, 1, 15, 16, 30, 64, 127, 128, 1000]), 32, 128)
    # 16 + ⌊16 · log(distance / 16) / log 8⌋, at most 31
    assert buckets.tolist() == [0, 1, 15, 16, 20, 26, 31, 31, 31]
