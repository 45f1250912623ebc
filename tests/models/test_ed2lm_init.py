import math
import re

import pytest
import torch
from transformers import T5Config

from rankscale_utils.models.ed2lm import Ed2lm, Setting, build_ed2lm
from rankscale_utils.models.ed2lm_init import initialise_ed2lm

PAD, START, END, TRUE, FALSE, WORDS = 0, 1, 2, 3, 4, 300
SHAPES = [(8, 1), (10, 1), (12, 1), (16, 1), (24, 1), (48, 3), (48, 1)]  # width, heads


def new(width: int = 16, heads: int = 1, tied: bool = False, **settings) -> Ed2lm:
    shape = {"d_model": width, "num_heads": heads, "d_kv": width // heads, "d_ff": 2 * width, "num_layers": 1}
    shape |= {"num_decoder_layers": 2, "dropout_rate": 0.0, "vocab_size": WORDS, "decoder_start_token_id": START}
    config = T5Config(**(shape | {"pad_token_id": PAD, "tie_word_embeddings": tied} | settings))
    return build_ed2lm(config, Setting(TRUE, FALSE, document_tokens=24)).eval()


def zipf() -> torch.Tensor:
    """Shares of words by rank, and 1 for the tokens that are no words."""
    shares = 1 / torch.arange(10, WORDS + 10.0)
    shares = shares / shares.sum() * 0.1
    shares[: FALSE + 1] = 1.0
    return shares


def pairs(count: int = 64) -> tuple[torch.Tensor, ...]:
    """Rare words: documents (2 · count, 11) and queries (2 · count, 4); only the first half's hold their queries."""
    generator = torch.Generator().manual_seed(5)
    drawn = torch.stack([torch.randperm(WORDS - 100, generator=generator)[:24] + 100 for _ in range(count)])
    queries, holding, other = drawn[:, :4], drawn[:, :10], drawn[:, 14:]
    documents = torch.cat([torch.cat([holding, other]), torch.full((2 * count, 1), END)], 1)
    return documents, torch.ones_like(documents), queries.repeat(2, 1), torch.ones(2 * count, 4, dtype=torch.long)


def preferred(scores: torch.Tensor) -> float:
    """The share of queries whose own document is scored above the other."""
    own, other = scores.chunk(2)
    return (own > other).float().mean().item()


@torch.no_grad()
@pytest.mark.parametrize(("width", "heads"), SHAPES)
@pytest.mark.parametrize("kind", ["true_false", "log_likelihood", "both"])
def test_a_document_that_holds_the_query_leads_from_the_start(width, heads, kind):
    models = [initialise_ed2lm(new(width, heads), zipf(), seed) for seed in range(4)]
    shares = [preferred(model(*pairs()).scores(kind)) for model in models]
    assert min(shares) > 0.55
    assert sum(shares) / len(shares) > 0.7


@torch.no_grad()
@pytest.mark.parametrize("settings", [{"tied": True}, {"feed_forward_proj": "gated-gelu"}, {"num_decoder_layers": 3}])
def test_the_verdict_matches_words_in_other_t5s_too(settings):
    model = initialise_ed2lm(new(**settings), zipf(), seed=0)
    assert preferred(model(*pairs()).relevance) > 0.8


@torch.no_grad()
@pytest.mark.parametrize(("width", "heads"), SHAPES)
def test_verdicts_start_negative_and_alike_at_every_width(width, heads):
    relevance = initialise_ed2lm(new(width, heads), zipf(), seed=0, verdict=2.0)(*pairs()).relevance
    assert relevance.abs().max() <= 2.0
    assert -1.6 < relevance.mean() < -0.6


@torch.no_grad()
@pytest.mark.parametrize(("width", "heads"), SHAPES)
def test_frequent_words_are_likelier_than_rare_ones(width, heads):
    model, words = initialise_ed2lm(new(width, heads), zipf(), seed=0), torch.arange(5, WORDS)[:, None]
    document = torch.tensor([[50, 60, END]]).repeat(len(words), 1)
    surprise = -model(document, torch.ones_like(document), words, torch.ones_like(words)).log_likelihood()
    shares = zipf()[5:] / zipf()[5:].sum()
    assert torch.corrcoef(torch.stack([surprise, -shares.log()]))[0, 1] > 0.8
    assert (shares * surprise).sum() < math.log(WORDS)  # what a guess without a prior would cost


@torch.no_grad()
def test_seeds_decide_every_weight():
    shares, weights = zipf(), []
    for seed in (0, 0, 1):
        torch.manual_seed(len(weights))
        model = initialise_ed2lm(new(), shares, seed)
        weights.append(torch.cat([weight.flatten() for weight in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("model", "shares", "message"),
    [
        (new(), torch.ones(WORDS - 1), "shares has shape (299,); give one share for each of 300 tokens"),
        (new(num_decoder_layers=1), zipf(), "the decoder has one layer; give it two"),
        (new(d_kv=7), zipf(), "1 heads of 7 dimensions do not make a width of 16"),
        (new(width=6, heads=2), zipf(), "2 heads of 3 dimensions"),
    ],
)
def test_what_can_not_be_started_is_refused(model, shares, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        initialise_ed2lm(model, shares)
