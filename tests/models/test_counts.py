import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig

from rankscale_utils.models.build import build_model, counted_share
from rankscale_utils.models.counts import Flops, counted_flops, encoder_flops, parameters, pass_flops
from rankscale_utils.models.pretrained import bare_encoder
from tests.models.tiny import ENCODERS, small_config

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
    cost = Flops(per_token=10, per_token_pair=2, per_pair=5)
    assert cost.forward([3, 4]).tolist() == [10 * 3 + 2 * 9 + 5, 10 * 4 + 2 * 16 + 5]
    shared = Flops(per_token=10, per_token_pair=2, per_pair=5, shared=(30, 3, 0))
    assert shared.forward([3, 4], together=6).tolist() == [53 + 39 / 6, 77 + 42 / 6]


def test_local_attention_is_counted_as_far_as_it_reaches():
    lengths = np.arange(1, 40)
    seen = [sum(abs(i - j) <= 8 for i in range(length) for j in range(length)) for length in lengths]
    cost = Flops(per_token=0, per_token_pair=3, per_pair=0, unseen=2, reach=8)
    assert cost.forward(lengths).tolist() == [
        length**2 + 2 * count for length, count in zip(lengths, seen, strict=True)
    ]
    assert cost.padded(2, 30) == 2 * 3 * 30**2


@pytest.mark.parametrize("architecture", ENCODERS)
@pytest.mark.parametrize(("sequences", "length"), [(1, 96), (3, 41)])
def test_flops_of_every_architecture_are_those_of_a_counted_pass(architecture, sequences, length):
    encoder = bare_encoder(small_config(architecture))
    with FlopCounterMode(display=False) as counter:
        encoder.set_attn_implementation("eager")
        encoder(input_ids=torch.full((sequences, length), 7))
    flops = encoder_flops(encoder)
    assert flops.padded(sequences, length) == counter.get_total_flops()
    if architecture != "modernbert":  # whose masked scores torch counts too
        assert flops.forward([length], sequences)[0] * sequences == pytest.approx(counter.get_total_flops())


@pytest.mark.parametrize("architecture", ["rembert", "roformer", "convbert", "big_bird", "ibert", "nystromformer"])
def test_flops_of_an_architecture_that_looks_into_its_input_are_counted(architecture):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    given = {"embedding_size": 16} if architecture == "convbert" else {}
    config = AutoConfig.for_model(architecture, vocab_size=120, max_position_embeddings=256, **sizes, **given)
    encoder = bare_encoder(config)
    assert encoder_flops(encoder).padded(2, 137) == counted_flops(encoder, 2, 137)


def test_shared_layers_and_disentangled_attention_are_counted(tiny_study):
    # Each weight once, as an encoder without them has it.
    def weights(encoder):
        return sum(2 * m.weight.numel() for m in encoder.modules() if isinstance(m, nn.Linear))

    albert, deberta, bert = (bare_encoder(small_config(kind)) for kind in ("albert", "deberta-v2", "bert"))
    assert encoder_flops(bert).per_token == weights(bert)
    assert encoder_flops(albert).per_token > 2 * weights(albert)
    assert encoder_flops(deberta).per_token > 1.1 * weights(deberta)
    assert encoder_flops(deberta).shared[0] > 0


@pytest.mark.parametrize("family", ["listwise", "contrastive", "true_false"])
def test_a_rungs_count_is_compared_with_a_counted_pass(new_study, family):
    study = new_study(objectives={family: {"learning_rate": {"base": 1e-3}}})
    model = build_model(study, study.run(f"{family}-w8-s0"), VOCABULARY)
    attention = model.t5.encoder.config._attn_implementation if family == "true_false" else None
    assert counted_share(model, 40) == 1
    if attention:
        assert model.t5.encoder.config._attn_implementation == attention
