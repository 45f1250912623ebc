import math

import numpy as np
import pytest

from rankscale_utils.errors import StudyError
from rankscale_utils.evaluation.contrastive_entropy import PAIRS, contrastive_entropy, draw_pool


def embeddings(rng, count, scale=1.0):
    return (scale * rng.normal(size=(count, 8))).astype(np.float32)


@pytest.fixture
def held_out():
    """Embeddings of queries, their positives and a pool."""
    rng = np.random.default_rng(0)
    return embeddings(rng, PAIRS + 3), embeddings(rng, PAIRS + 3), embeddings(rng, 40)


def test_with_the_whole_pool_as_negatives_it_is_what_brute_force_finds(held_out):
    queries, positives, pool = held_out
    found = contrastive_entropy(queries, positives, pool, negatives=len(pool), repeats=1)
    for query, positive, entropy in zip(queries, positives, found, strict=True):
        own, others = math.exp(query @ positive), sum(math.exp(query @ other) for other in pool)
        assert entropy == pytest.approx(-math.log(own / (own + others)), rel=1e-5)


def test_repeats_are_averaged_over_draws_without_replacement(held_out):
    """With all negatives but one, a draw is known by the one that it leaves out."""
    queries, positives, pool = held_out
    queries, positives = np.repeat(queries[:1], 500, 0), np.repeat(positives[:1], 500, 0)
    once = contrastive_entropy(queries, positives, pool, negatives=len(pool) - 1, repeats=1)
    own, others = np.exp(float(queries[0] @ positives[0])), np.exp((pool @ queries[0]).astype(float))
    possible = np.log((own + others.sum() - others) / own)
    assert np.abs(once[:, None] - possible).min(1).max() < 1e-5
    averaged = contrastive_entropy(queries, positives, pool, negatives=len(pool) - 1, repeats=20)
    assert averaged.mean() == pytest.approx(possible.mean(), abs=0.01)
    assert averaged.std() < once.std() / 3


def test_the_seed_alone_decides_the_draws(held_out):
    first, again, other = (contrastive_entropy(*held_out, negatives=10, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    fewer = contrastive_entropy(*(part[:5] for part in held_out[:2]), held_out[2], negatives=10)
    assert np.array_equal(fewer, first[:5])


def test_equal_scores_are_the_logarithm_of_the_choices():
    same = np.ones((5, 4), np.float32)
    assert contrastive_entropy(same, same, np.ones((300, 4), np.float32)) == pytest.approx(math.log(257))


def test_large_scores_do_not_overflow(held_out):
    queries, positives, pool = held_out
    found = contrastive_entropy(1e3 * queries, positives, pool, negatives=10)
    assert np.isfinite(found).all()
    assert found.max() > 1000


def test_the_pool_is_random_documents_that_are_relevant_to_nothing():
    documents, relevant = np.arange(100, 200), np.arange(150, 160)
    pool = draw_pool(documents, relevant, 50)
    assert len(set(pool)) == 50
    assert set(pool) <= set(documents) - set(relevant)
    assert np.array_equal(pool, draw_pool(documents[::-1], relevant, 50))
    assert not np.array_equal(pool, draw_pool(documents, relevant, 50, seed=1))
    assert len(draw_pool(documents, relevant, 1000)) == 90


def test_what_cannot_be_measured_is_one_sentence(held_out):
    queries, positives, pool = held_out
    with pytest.raises(StudyError, match="the pool has 40 documents, fewer than the 256 negatives asked for: enlarge"):
        contrastive_entropy(queries, positives, pool)
    with pytest.raises(StudyError, match=r"embeddings have \[7, 8\] dimensions"):
        contrastive_entropy(queries, positives, pool[:, :7], negatives=10)
