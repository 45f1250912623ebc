import math

import pytest
import torch

from rankscale_utils.objectives import LOSSES, listwise, pairwise, pointwise

# Two queries of three documents; the relevant one stands first in the one and last in the other.
SCORES = torch.tensor([[2.0, 1.0, -1.0], [0.0, 0.5, 1.0]], dtype=torch.float64)
RELEVANCE = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)


def softplus(x):
    return math.log(1 + math.exp(x))


def test_pointwise_is_the_mean_cross_entropy_of_every_pair():
    by_hand = (softplus(-2) + softplus(1) + softplus(-1) + softplus(0) + softplus(0.5) + softplus(-1)) / 6
    assert pointwise(SCORES, RELEVANCE).item() == pytest.approx(by_hand, rel=1e-12)
    assert pointwise(SCORES, RELEVANCE).item() == pytest.approx(0.6223, abs=5e-5)


def test_pairwise_is_the_mean_softplus_of_every_preference():
    by_hand = (softplus(1 - 2) + softplus(-1 - 2) + softplus(0 - 1) + softplus(0.5 - 1)) / 4
    assert pairwise(SCORES, RELEVANCE).item() == pytest.approx(by_hand, rel=1e-12)
    assert pairwise(SCORES, RELEVANCE).item() == pytest.approx(0.2873, abs=5e-5)


def test_listwise_is_the_mean_cross_entropy_of_the_softmax():
    first = -math.log(math.exp(2) / (math.exp(2) + math.exp(1) + math.exp(-1)))
    second = -math.log(math.exp(1) / (math.exp(0) + math.exp(0.5) + math.exp(1)))
    assert listwise(SCORES, RELEVANCE).item() == pytest.approx((first + second) / 2, rel=1e-12)
    assert listwise(SCORES, RELEVANCE).item() == pytest.approx(0.5146, abs=5e-5)


def test_pairwise_compares_grades_and_skips_ties():
    scores = torch.tensor([[0.3, -0.2, 1.1, 0.0]], dtype=torch.float64)
    grades = torch.tensor([[2.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    preferences = [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)]
    by_hand = sum(softplus(scores[0, j].item() - scores[0, i].item()) for i, j in preferences) / len(preferences)
    assert pairwise(scores, grades).item() == pytest.approx(by_hand, rel=1e-12)


def test_listwise_shares_the_target_among_relevant_documents():
    scores = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64)
    total = math.log(math.exp(1) + 1 + math.exp(-1))
    by_hand = ((total - 1) + (total - 0)) / 2
    assert listwise(scores, torch.tensor([[1.0, 1.0, 0.0]])).item() == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize(("name", "moves"), [("pointwise", True), ("pairwise", False), ("listwise", False)])
def test_only_pointwise_feels_a_shift_of_all_scores_of_a_query(name, moves):
    shifted = SCORES + torch.tensor([[3.0], [-1.5]])
    before, after = (LOSSES[name](scores, RELEVANCE).item() for scores in (SCORES, shifted))
    assert (abs(before - after) > 1e-3) == moves
    if not moves:
        assert after == pytest.approx(before, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "value"), [("pointwise", math.log(2)), ("pairwise", math.log(2)), ("listwise", math.log(3))]
)
def test_equal_scores_cost_what_chance_does(name, value):
    assert LOSSES[name](torch.zeros_like(SCORES), RELEVANCE).item() == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_equal_finite_differences_and_pull_the_relevant_document_up(name):
    scores = SCORES.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda given: LOSSES[name](given, RELEVANCE), scores)
    LOSSES[name](scores, RELEVANCE).backward()
    assert (scores.grad[RELEVANCE > 0] < 0).all()
    assert (scores.grad[RELEVANCE == 0] > 0).all()


def test_gradients_equal_the_formulas():
    scores = SCORES.clone().requires_grad_()
    listwise(scores, RELEVANCE).backward()
    torch.testing.assert_close(scores.grad, (SCORES.softmax(1) - RELEVANCE) / 2)
    scores.grad = None
    pointwise(scores, RELEVANCE).backward()
    torch.testing.assert_close(scores.grad, (SCORES.sigmoid() - RELEVANCE) / 6)
    scores.grad = None
    pairwise(scores, RELEVANCE).backward()
    by_hand = torch.sigmoid(SCORES[0, 1:] - SCORES[0, :1]) / 4
    torch.testing.assert_close(scores.grad[0], torch.cat([-by_hand.sum(0, keepdim=True), by_hand]))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_stay_finite_where_exponentials_would_not(name):
    scores = torch.tensor([[-1000.0, 1000.0]], requires_grad=True)
    loss = LOSSES[name](scores, torch.tensor([[1.0, 0.0]]))
    loss.backward()
    assert 500 < loss.item() < 2001
    assert torch.isfinite(scores.grad).all()
