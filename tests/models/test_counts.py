import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from rankscale_utils.models.build import build_model
from rankscale_utils.models.counts import parameters, pass_flops

VOCABULARY = 512


def model_of(study, rung="w8"):
    return build_model(study, study.run(f"listwise-{rung}-s0"), VOCABULARY).eval()


def pair(length):
    ids = torch.randint(4, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(0))
    return ids, torch.ones_like(ids), (torch.arange(length) >= length // 3).long()[None]


def test_bert_counts_equal_the_formula(tiny_study):
    counts = parameters(model_of(tiny_study))
    hidden, inner, positions = 8, 16, 48
    attention, mlp, norms = 4 * (hidden * hidden + hidden), 2 * hidden * inner + inner + hidden, 2 * 2 * hidden
    outside = 2 * (attention + mlp + norms) + 2 * hidden + hidden + 1  # two layers, the embeddings' norm, the head
    assert counts.non_embedding == outside
    assert counts.total == outside + (VOCABULARY + positions + 2) * hidden


def test_tied_weights_count_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.out, self.head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False), nn.Linear(4, 1)
            self.out.weight = self.embedding.weight

    counts = parameters(Tied())
    assert (counts.total, counts.non_embedding) == (10 * 4 + 4 + 1, 4 + 1)


def test_a_fresh_t5_counts_its_tied_head_once():
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=50, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    )
    model = T5ForConditionalGeneration(config)
    storages = {tensor.data_ptr(): tensor.numel() for tensor in model.state_dict().values()}
    assert sum(t.numel() for t in model.state_dict().values()) > sum(storages.values())  # something is tied
    assert parameters(model).total == sum(storages.values())


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
@pytest.mark.parametrize(("rung", "length"), [("w4", 7), ("w8", 48), ("w12", 31)])
def test_flops_equal_those_that_torch_counts(new_study, architecture, rung, length):
    # Exactly: eager attention is plain matrix products, and both counts leave everything else out.
    model = model_of(new_study(architecture=architecture), rung)
    model.encoder.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*pair(length))
    assert pass_flops(model).forward(np.array([length])).tolist() == [counter.get_total_flops()]


def test_training_costs_three_forward_passes_less_the_inputs_own_gradient(tiny_study):
    # Torch counts no gradient for what feeds the first layer's parameters alone; that is all that may be missing.
    model = model_of(tiny_study)
    model.encoder.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        model(*pair(40)).sum().backward()
    assert counter.get_total_flops() == pytest.approx(3 * pass_flops(model).forward(np.array([40]))[0], rel=0.01)


def test_flops_of_many_pairs_are_those_of_each():
    from rankscale_utils.models.counts import Flops

    cost = Flops(per_token=10, per_token_pair=2, per_pair=5)
    assert cost.forward([3, 4]).tolist() == [10 * 3 + 2 * 9 + 5, 10 * 4 + 2 * 16 + 5]
