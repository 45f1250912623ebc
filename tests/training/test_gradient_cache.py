"""A step in micro-batches has the gradient of the plain step, whatever the objective, and with dropout."""

import numpy as np
import pytest
import torch
from torch import nn

from rankscale_utils.training.distributed import Processes
from rankscale_utils.training.gradient_cache import carry_back, micro_batches
from rankscale_utils.training.losses import LOSSES, contrastive

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


class Encoder(nn.Module):
    """A small encoder with dropout."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.dropout, self.last = nn.Embedding(50, 16), nn.Dropout(0.3), nn.Linear(16, 8)

    def forward(self, ids, mask):
        states = self.dropout(torch.tanh(self.words(ids))) * mask[..., None]
        return self.dropout(self.last(states.sum(1) / mask.sum(1, keepdim=True)))


def batch(count, seed):
    ids = torch.randint(0, 50, (count, 6), generator=torch.Generator().manual_seed(seed))
    return ids, (torch.arange(6)[None] <= torch.arange(count)[:, None] % 6).float()


TEXT_GROUPS = [batch(10, 1), batch(10, 2), batch(7, 3)]
TEXTS = [torch.cat(parts) for parts in zip(*TEXT_GROUPS, strict=True)]  # ids and masks, group after group


def gradients_by_name(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def in_groups(loss):
    """Return the loss of all embeddings (texts, d), group after group."""
    return lambda embedded: loss(*embedded.split([len(ids) for ids, _ in TEXT_GROUPS]))


def of_the_batch(queries, positives, negatives):
    """The loss whose negatives are other queries' positives too."""
    own = torch.cat([torch.zeros(len(queries), len(negatives)), torch.eye(len(queries))], 1).bool()
    return contrastive(queries, positives, torch.cat([negatives, positives]), barred=own)


def embedding(encode):
    """Return what embeds the texts at these places, the same way in both passes."""

    def embed(places, part):
        torch.manual_seed(part)
        return encode(*(tensor[places] for tensor in TEXTS))

    return embed


def test_cached_gradients_are_those_of_the_same_chunks_at_once_with_dropout():
    model, loss = Encoder().train(), in_groups(of_the_batch)
    embed, parts = embedding(model), micro_batches(TEXTS[1].sum(1).numpy(), 4)
    embedded = torch.cat([embed(places, part) for part, places in enumerate(parts)])
    plain = loss(embedded[np.argsort(np.concatenate(parts))])
    plain.backward()
    expected = gradients_by_name(model)

    model.zero_grad()
    found, embeddings = carry_back(embed, parts, loss, Processes())
    assert found == pytest.approx(plain.item(), abs=1e-6)
    assert embeddings.shape == (27, 8)
    for name, gradient in gradients_by_name(model).items():
        assert torch.allclose(gradient, expected[name], atol=1e-5), name
        assert gradient.abs().max() > 1e-3


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_without_dropout_the_chunks_do_not_matter(chunk):
    model = Encoder().eval()
    contrastive(*(model(*group) for group in TEXT_GROUPS)).backward()
    expected = gradients_by_name(model)
    model.zero_grad()
    parts = micro_batches(TEXTS[1].sum(1).numpy(), chunk)
    carry_back(embedding(model), parts, in_groups(contrastive), Processes())
    for name, gradient in gradients_by_name(model).items():
        assert torch.allclose(gradient, expected[name], atol=1e-5), name


def test_no_graph_holds_more_texts_than_a_chunk():
    """Without a graph any number of texts may be encoded; with one, no more than a chunk."""
    model, seen = Encoder().train(), []

    def encode(ids, mask):
        seen.append((torch.is_grad_enabled(), len(ids)))
        return model(ids, mask)

    carry_back(embedding(encode), micro_batches(TEXTS[1].sum(1).numpy(), 4), in_groups(contrastive), Processes())
    with_graph = [count for graph, count in seen if graph]
    assert sum(with_graph) == sum(len(group[0]) for group in TEXT_GROUPS)
    assert max(with_graph) == 4
