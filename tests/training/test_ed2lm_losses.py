import math

import pytest
import torch

from rankscale_utils.models.ed2lm import Reading
from rankscale_utils.training.losses import likelihood, margin, true_false, unlikelihood

# Token probabilities of two pairs, the first relevant; the second query has one token, then padding.
P = torch.tensor([[0.5, 0.8], [0.1, 0.9]], dtype=torch.float64)
READING = Reading(torch.logit(P), torch.tensor([[1, 1], [1, 0]]), torch.zeros(2))
LIKELIHOODS, UNLIKELIHOODS = READING.log_likelihood(), READING.log_unlikelihood()
RELEVANT = torch.tensor([1.0, 0.0], dtype=torch.float64)


def test_likelihood_is_the_surprise_of_relevant_pairs():
    assert likelihood(LIKELIHOODS, RELEVANT).item() == pytest.approx(-math.log(0.5) - math.log(0.8), rel=1e-12)


def test_unlikelihood_adds_how_likely_other_queries_seem():
    by_hand = -math.log(0.5) - math.log(0.8) - math.log(1 - 0.1)
    assert unlikelihood(LIKELIHOODS, UNLIKELIHOODS, RELEVANT).item() == pytest.approx(by_hand, rel=1e-12)
    assert unlikelihood(LIKELIHOODS, UNLIKELIHOODS, RELEVANT).item() == pytest.approx(1.0217, abs=5e-5)


def test_each_side_is_a_mean_over_its_own_pairs():
    more, unlike = LIKELIHOODS.repeat(3)[:5], UNLIKELIHOODS.repeat(3)[:5]
    relevant = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(unlikelihood(more, unlike, relevant), unlikelihood(LIKELIHOODS, UNLIKELIHOODS, RELEVANT))


def test_a_step_without_relevant_pairs_has_no_likelihood():
    assert likelihood(LIKELIHOODS, torch.zeros(2)).item() == 0
    by_hand = -(math.log(0.5) + math.log(0.2) + math.log(0.9)) / 2
    assert unlikelihood(LIKELIHOODS, UNLIKELIHOODS, torch.zeros(2)).item() == pytest.approx(by_hand, rel=1e-12)


def test_the_margin_is_asked_of_every_preference():
    log_likelihoods = torch.tensor([[-2.0, -2.5, -4.0], [-1.0, -3.0, -0.5]], dtype=torch.float64)
    relevance = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    by_hand = (max(0, 1 - 0.5) + max(0, 1 - 2.0) + max(0, 1 - 0.5) + max(0, 1 - 2.5)) / 4
    assert margin(log_likelihoods, relevance).item() == pytest.approx(by_hand, rel=1e-12)
    assert margin(log_likelihoods, relevance, least=3.0).item() == pytest.approx((2.5 + 1 + 2.5 + 0.5) / 4, rel=1e-12)


def test_true_false_is_the_cross_entropy_between_two_tokens():
    true, false = torch.tensor([1.2, -0.3], dtype=torch.float64), torch.tensor([0.2, 0.5], dtype=torch.float64)
    both = torch.stack([true, false], 1)
    expected = torch.nn.functional.cross_entropy(both, torch.tensor([0, 1]))
    assert true_false(true - false, RELEVANT).item() == pytest.approx(expected.item(), rel=1e-12)


def test_losses_stay_finite_and_push_where_a_probability_rounds_to_one():
    log_odds = torch.tensor([[-300.0], [300.0]], requires_grad=True)
    reading = Reading(log_odds, torch.ones(2, 1), torch.zeros(2))
    loss = unlikelihood(reading.log_likelihood(), reading.log_unlikelihood(), torch.tensor([1.0, 0.0]))
    loss.backward()
    assert loss.item() == 600
    assert log_odds.grad.flatten().tolist() == [-1, 1]


def of_log_odds(given):
    reading = READING._replace(log_odds=given)
    return unlikelihood(reading.log_likelihood(), reading.log_unlikelihood(), RELEVANT)


def test_gradients_equal_finite_differences_and_leave_padding_alone():
    log_odds = READING.log_odds.clone().requires_grad_()
    assert torch.autograd.gradcheck(of_log_odds, log_odds)
    of_log_odds(log_odds).backward()
    assert log_odds.grad[1, 1] == 0
    assert (log_odds.grad[0] < 0).all()
    assert log_odds.grad[1, 0] > 0
