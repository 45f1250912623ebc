"""A step in micro-batches has the gradient of the plain step, whatever the objective, and with dropout."""

import numpy as np
import pytest
import torch
from torch import nn

from rankscale_utils.training.distributed import Processes
from rankscale_utils.training.gradient_cache import carry_back, micro_batches
from rankscale_utils.training.losses import LOSSES

QUERIES, GROUP, WIDTH = 6, 20, 12


def model(dropout=0.0):
    torch.manual_seed(0)
    layers = [nn.Linear(WIDTH, 32), nn.GELU(), nn.Dropout(dropout), nn.Linear(32, 1)]
    return nn.Sequential(*layers).train()


def step(objective):
    generator = torch.Generator().manual_seed(1)
    pairs = torch.randn(QUERIES * GROUP, WIDTH, generator=generator)
    target = torch.zeros(QUERIES, GROUP)
    target[:, 0], target[:, 1] = 2, 1
    if objective in ("margin_mse", "ranknet_distillation"):
        target = torch.randn(QUERIES, GROUP, generator=generator)
    return pairs, target, np.random.default_rng(0).integers(5, 50, QUERIES * GROUP)


def gradients(network):
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


def relative_error(ones, others):
    return float((ones - others).norm() / others.norm())


@pytest.mark.parametrize("pairs_at_once", [1, 7, 8, 60, 120])
@pytest.mark.parametrize("objective", LOSSES)
def test_the_gradient_is_that_of_the_plain_loss(objective, pairs_at_once):
    network, (pairs, target, lengths) = model(), step(objective)
    plain = LOSSES[objective](network(pairs).view(target.shape), target)
    plain.backward()
    expected = gradients(network)
    network.zero_grad()

    def loss(scores):
        return LOSSES[objective](scores.view(target.shape), target)

    parts = micro_batches(lengths, pairs_at_once)
    assert max(map(len, parts)) <= pairs_at_once
    value, scores = carry_back(lambda places, _: network(pairs[places]).squeeze(1), parts, loss, Processes())
    assert value == pytest.approx(plain.item(), rel=1e-6)
    assert torch.allclose(scores, network(pairs).squeeze(1), atol=1e-6)
    assert relative_error(gradients(network), expected) < 1e-5


def test_one_micro_batch_is_the_plain_step_bit_for_bit():
    network, (pairs, target, lengths) = model(), step("listwise")
    LOSSES["listwise"](network(pairs).view(target.shape), target).backward()
    expected = gradients(network)
    network.zero_grad()

    def loss(scores):
        return LOSSES["listwise"](scores.view(target.shape), target)

    parts = micro_batches(lengths, 1000)
    carry_back(lambda places, _: network(pairs[places]).squeeze(1), parts, loss, Processes())
    assert torch.equal(gradients(network), expected)


def test_both_passes_drop_the_same_and_the_gradient_is_that_of_one_graph():
    network, (pairs, target, lengths) = model(dropout=0.3), step("listwise")
    parts = micro_batches(lengths, 17)

    def score(places, part):
        torch.manual_seed(part)
        return network(pairs[places]).squeeze(1)

    def loss(scores):
        return LOSSES["listwise"](scores.view(target.shape), target)

    whole = torch.cat([score(places, part) for part, places in enumerate(parts)])  # one graph over all of them
    loss(whole[np.argsort(np.concatenate(parts))]).backward()
    expected = gradients(network)
    network.zero_grad()
    carry_back(score, parts, loss, Processes())
    assert relative_error(gradients(network), expected) < 1e-5


def test_no_more_than_one_micro_batch_has_a_graph():
    network, (pairs, target, lengths) = model(), step("listwise")
    with_graph = []

    def score(places, _):
        with_graph.append(len(places) * torch.is_grad_enabled())
        return network(pairs[places]).squeeze(1)

    parts = micro_batches(lengths, 8)
    carry_back(score, parts, lambda scores: LOSSES["listwise"](scores.view(target.shape), target), Processes())
    assert with_graph == [0] * 15 + [8] * 15


def test_micro_batches_start_with_the_longest_and_hold_like_lengths():
    lengths = np.array([3, 9, 4, 8, 5])
    assert [part.tolist() for part in micro_batches(lengths, 2)] == [[1, 3], [4, 2], [0]]
    assert [part.tolist() for part in micro_batches(lengths, 5)] == [[0, 1, 2, 3, 4]]
    assert [len(part) for part in micro_batches(lengths, 3, most=7)] == [2, 2, 1]  # as many as another process needs
