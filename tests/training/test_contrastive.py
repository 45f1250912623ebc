import math

import numpy as np
import pytest
import torch
from torch import nn

from rankscale_utils.training.distributed import Processes
from rankscale_utils.training.gradient_cache import carry_back, micro_batches
from rankscale_utils.training.losses import contrastive


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


GROUPS = [batch(10, 1), batch(10, 2), batch(7, 3)]
TEXTS = [torch.cat(parts) for parts in zip(*GROUPS, strict=True)]  # ids and masks of all groups, one after the other


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def in_groups(loss):
    """Return the loss of all embeddings (texts, d), group after group."""
    return lambda embedded: loss(*embedded.split([len(ids) for ids, _ in GROUPS]))


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
    expected = gradients(model)

    model.zero_grad()
    found, embeddings = carry_back(embed, parts, loss, Processes())
    assert found == pytest.approx(plain.item(), abs=1e-6)
    assert embeddings.shape == (27, 8)
    for name, gradient in gradients(model).items():
        assert torch.allclose(gradient, expected[name], atol=1e-5), name
        assert gradient.abs().max() > 1e-3


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_without_dropout_the_chunks_do_not_matter(chunk):
    model = Encoder().eval()
    contrastive(*(model(*group) for group in GROUPS)).backward()
    expected = gradients(model)
    model.zero_grad()
    parts = micro_batches(TEXTS[1].sum(1).numpy(), chunk)
    carry_back(embedding(model), parts, in_groups(contrastive), Processes())
    for name, gradient in gradients(model).items():
        assert torch.allclose(gradient, expected[name], atol=1e-5), name


def test_no_graph_holds_more_texts_than_a_chunk():
    """Without a graph any number of texts may be encoded; with one, no more than a chunk."""
    model, seen = Encoder().train(), []

    def encode(ids, mask):
        seen.append((torch.is_grad_enabled(), len(ids)))
        return model(ids, mask)

    carry_back(embedding(encode), micro_batches(TEXTS[1].sum(1).numpy(), 4), in_groups(contrastive), Processes())
    with_graph = [count for graph, count in seen if graph]
    assert sum(with_graph) == sum(len(group[0]) for group in GROUPS)
    assert max(with_graph) == 4
