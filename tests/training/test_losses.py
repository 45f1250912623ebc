"""Every loss against hand-made numbers, finite differences and, where there is one, another implementation."""

import math

import pytest
import torch
from torch import nn

from rankscale_utils.models.ed2lm import Reading
from rankscale_utils.study.objectives import DISTILLED, LearningRate, Objective
from rankscale_utils.training.losses import (
    LOSSES,
    contrastive,
    lambdaloss,
    likelihood,
    listwise,
    loss_of,
    margin,
    margin_mse,
    pairwise,
    pointwise,
    ranknet_distillation,
    true_false,
    unlikelihood,
)

# Two queries of three documents; the relevant one stands first in the one and last in the other.
HARD = [name for name in LOSSES if name not in DISTILLED]
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


@pytest.mark.parametrize(("name", "moves"), [(name, name == "pointwise") for name in LOSSES])
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


@pytest.mark.parametrize("name", HARD)
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


@pytest.mark.parametrize("name", HARD)
def test_losses_stay_finite_where_exponentials_would_not(name):
    scores = torch.tensor([[-1000.0, 1000.0]], requires_grad=True)
    loss = LOSSES[name](scores, torch.tensor([[1.0, 0.0]]))
    loss.backward()
    assert 500 < loss.item() < 25000
    assert torch.isfinite(scores.grad).all()


def test_pointwise_takes_every_grade_from_one_on_for_relevant():
    scores = torch.tensor([[0.3, -0.2, 1.1]], dtype=torch.float64)
    assert pointwise(scores, torch.tensor([[2.0, 1.0, 0.0]])) == pointwise(scores, torch.tensor([[1.0, 1.0, 0.0]]))


def test_listwise_weighs_grades_by_their_share_and_cools_the_softmax():
    scores = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64)
    total = math.log(math.exp(2) + 1 + math.exp(-2))  # temperature 0.5
    by_hand = (2 * (total - 2) + (total - 0)) / 3
    grades, rule = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64), LearningRate(base=1e-3)
    cooled = loss_of("listwise", Objective(learning_rate=rule, temperature=0.5))
    assert cooled(scores, grades).item() == pytest.approx(by_hand, rel=1e-12)
    assert loss_of("listwise", Objective(learning_rate=rule))(scores, grades) == listwise(scores, grades)


def test_lambdaloss_weighs_each_pair_by_hand():
    # Ranks by score: grade 1, grade 2, grade 0. Discounts log2(2), log2(3), 2; gains 1, 3, 0 over the ideal DCG.
    scores, grades = torch.tensor([[0.5, 1.0, 0.0]], dtype=torch.float64), torch.tensor([[2.0, 1.0, 0.0]])
    one, two, three = 1.0, 1 / math.log2(3), 0.5
    ideal = 3 * one + 1 * two
    apart = {1: one - two, 2: two - three}  # |1/D_d − 1/D_(d+1)| for ranks d apart
    pairs = [  # gain difference, ranks apart, discount difference, margin of the better document
        (2, 1, one - two, 0.5 - 1.0),
        (1, 2, one - three, 1.0 - 0.0),
        (3, 1, two - three, 0.5 - 0.0),
    ]
    by_hand = sum(gain / ideal * (10 * apart[d] + rank) * softplus(-margin) for gain, d, rank, margin in pairs) / 3
    assert lambdaloss(scores, grades.double()).item() == pytest.approx(by_hand, rel=1e-12)


def test_margin_mse_compares_margins_by_hand():
    teacher = torch.tensor([[5.0, 1.0, 4.0], [2.0, 2.0, 0.0]], dtype=torch.float64)
    by_hand = ((1 - 4) ** 2 + (3 - 1) ** 2 + (-0.5 - 0) ** 2 + (-1 - 2) ** 2) / 4
    assert margin_mse(SCORES, teacher).item() == pytest.approx(by_hand, rel=1e-12)
    assert margin_mse(teacher + 7, teacher).item() == 0


def test_ranknet_distillation_follows_the_teachers_order_by_hand():
    scores, teacher = torch.tensor([[[0.3, -0.2, 1.1]], [[9.0, 3.5, 9.0]]], dtype=torch.float64)
    by_hand = (softplus(-0.2 - 0.3) + softplus(-0.2 - 1.1)) / 2  # the teacher's tie says nothing
    assert ranknet_distillation(scores, teacher).item() == pytest.approx(by_hand, rel=1e-12)


class Given(nn.Module):
    """The only module of a sentence-transformers CrossEncoder: it scores the text "i" with the i-th given score."""

    def __init__(self, scores):
        super().__init__()
        self.scores = scores.flatten()

    def preprocess(self, pairs, **_):
        return {"place": torch.tensor([int(document) for _, document in pairs])}

    def forward(self, features):
        return {"scores": self.scores[features["place"]].unsqueeze(1)}


def graded(queries=5, group=7):
    """Return scores, grades (0 to 2, some of them tied) and a teacher's scores; the first document is relevant."""
    generator = torch.Generator().manual_seed(0)
    scores, teacher = torch.randn(2, queries, group, generator=generator) * 2
    grades = torch.randint(0, 3, (queries, group), generator=generator).float()
    grades[:, 0] = 2
    return scores, grades, teacher


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_gradients_equal_sentence_transformers(name):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    losses = sentence_transformers.cross_encoder.losses
    scores, grades, teacher = graded()
    queries, group = scores.shape
    ours, theirs = (scores.clone().requires_grad_() for _ in range(2))
    model = sentence_transformers.CrossEncoder(modules=[Given(theirs)], device="cpu")
    names, documents = ["q"] * queries, [[str(q * group + d) for d in range(group)] for q in range(queries)]
    oracle = {  # the loss, its inputs and its labels
        "pointwise": (
            losses.BinaryCrossEntropyLoss(model),
            [names * group, [document for row in documents for document in row]],
            (grades >= 1).float().flatten(),
        ),
        "pairwise": (losses.RankNetLoss(model, reduction_log="natural"), [names, documents], list(grades)),
        # It takes the softmax of the labels for the target: the softmax of logarithms is the share.
        "listwise": (losses.ListNetLoss(model), [names, documents], list(grades.log())),
        "lambdaloss": (losses.LambdaLoss(model, reduction_log="natural"), [names, documents], list(grades)),
        "margin_mse": (losses.MarginMSELoss(model), [names, *map(list, zip(*documents, strict=True))], list(teacher)),
        "ranknet_distillation": (
            losses.RankNetLoss(model, reduction_log="natural"),
            [names, documents],
            list(teacher),
        ),
    }[name]
    loss, inputs, labels = oracle
    expected = loss(inputs, labels)
    found = LOSSES[name](ours, teacher if name in DISTILLED else grades)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    found.backward()
    expected.backward()
    assert ours.grad.abs().max() > 1e-3
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


@pytest.fixture
def embeddings():
    """Queries and positives (5, 4), shared negatives (7, 4) and hard ones (5, 2, 4)."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in ((5, 4), (5, 4), (7, 4), (5, 2, 4))]


def brute(queries, positives, others):
    """The loss over each query's own list of other documents, in plain floats."""
    losses = []
    for query, positive, documents in zip(queries, positives, others, strict=True):
        scores = [float(query @ positive), *(float(query @ document) for document in documents)]
        losses.append(math.log(sum(math.exp(score) for score in scores)) - scores[0])
    return sum(losses) / len(losses)


def test_every_kind_of_negatives_is_what_brute_force_finds(embeddings):
    queries, positives, negatives, hard = embeddings
    found = contrastive(queries, positives, negatives)
    assert found.item() == pytest.approx(brute(queries, positives, [negatives] * 5), rel=1e-5)
    batch = [torch.cat([positives[:row], positives[row + 1 :]]) for row in range(5)]
    found = contrastive(queries, positives, positives, barred=torch.eye(5, dtype=torch.bool))
    assert found.item() == pytest.approx(brute(queries, positives, batch), rel=1e-5)
    found = contrastive(queries, positives, hard=hard)
    assert found.item() == pytest.approx(brute(queries, positives, hard), rel=1e-5)
    every = [torch.cat([negatives, batch[row], hard[row]]) for row in range(5)]
    own = torch.cat([torch.zeros(5, 7), torch.eye(5)], 1).bool()
    found = contrastive(queries, positives, torch.cat([negatives, positives]), hard=hard, barred=own)
    assert found.item() == pytest.approx(brute(queries, positives, every), rel=1e-5)


def test_a_barred_document_is_no_negative_of_that_query_alone(embeddings):
    queries, positives, negatives, _ = embeddings
    barred = torch.zeros(5, 7, dtype=torch.bool)
    barred[1, 3] = barred[1, 4] = True
    found = contrastive(queries, positives, negatives, barred=barred)
    others = [negatives[[0, 1, 2, 5, 6]] if query == 1 else negatives for query in range(5)]
    assert found.item() == pytest.approx(brute(queries, positives, others), rel=1e-5)


def test_a_loss_without_negatives_is_refused(embeddings):
    with pytest.raises(ValueError, match="no negatives; give negatives or hard"):
        contrastive(*embeddings[:2])


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
