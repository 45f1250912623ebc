"""One flat batch against batches of one, for every architecture: states, gradients, and what may see what."""

from functools import partial

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, DataCollatorWithFlattening, T5Config, T5EncoderModel

from rankscale_utils.models.flat_batch import Sequences
from rankscale_utils.models.flat_encoders import Inputs, computed, is_unpadded, token_states, unpad
from rankscale_utils.models.flat_encoders import mean_states as mean_states_of
from rankscale_utils.models.pretrained import bare_encoder
from tests.models.tiny import small_config

LENGTHS = torch.tensor([7, 40, 3, 40, 12, 7, 7, 25, 40, 12])
READ = {
    "the first token": torch.ones_like(LENGTHS),
    "some": torch.tensor([3, 9, 1, 30, 12, 2, 7, 5, 6, 4]),
    "all": LENGTHS,
}
SHAPE = {"vocab_size": 300, "hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 3, "pad_token_id": 0}
TOKENS = {"bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}


def bert(**settings):
    config = AutoConfig.for_model("bert", **SHAPE, num_hidden_layers=2, **settings)
    return AutoModel.from_config(config, add_pooling_layer=False)


def modernbert(layers, **settings):
    """ModernBERT whose local layers see 8 tokens to each side; the last of 7 layers is global and of 3 it is local."""
    config = AutoConfig.for_model("modernbert", **SHAPE, **TOKENS, local_attention=16, **settings)
    config.num_hidden_layers = layers
    return AutoModel.from_config(AutoConfig.for_model(**(config.to_dict() | {"layer_types": None})))


def t5():
    config = T5Config(vocab_size=300, d_model=48, d_kv=16, d_ff=96, num_layers=2, num_heads=3)
    return T5EncoderModel(config).encoder


def small(architecture):
    return bare_encoder(small_config(architecture, 48, initializer_range=0.02))


MADE = {
    "bert": bert,
    **{name: partial(small, name) for name in ("albert", "distilbert", "electra", "eurobert", "xlm-roberta")},
    "modernbert, last layer global": lambda: modernbert(7),
    "modernbert, last layer local": lambda: modernbert(3),
    "modernbert with biases": lambda: modernbert(4, attention_bias=True),
    "t5": t5,
}


@pytest.fixture(params=MADE)
def encoder(request):
    torch.manual_seed(0)
    model = MADE[request.param]().eval()
    for tensor in model.parameters():
        torch.nn.init.normal_(tensor, std=0.3)
    return unpad(model)


def batch(encoder, seed=1):
    """Return ids, mask and, for BERT, segments of padded sequences of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(45) < LENGTHS[:, None]).long()
    ids = torch.randint(3, 300, mask.shape, generator=generator) * mask
    segments = (torch.arange(45) >= LENGTHS[:, None] // 2).long() * mask
    return ids, mask, segments if encoder.config.model_type in ("albert", "bert", "electra") else None


def mean_states(encoder, *batch):
    return mean_states_of(encoder, Inputs.of(encoder, *batch))


def one_by_one(encoder, ids, mask, read, segments):
    """Return what transformers' own attention makes of every sequence alone, without padding."""
    encoder.set_attn_implementation("eager")
    alone = []
    for row, length in enumerate(LENGTHS):
        named = {} if segments is None else {"token_type_ids": segments[row : row + 1, :length]}
        found = encoder(input_ids=ids[row : row + 1, :length], **named).last_hidden_state
        alone.append(found[0, : read[row]].mean(0))
    unpad(encoder)
    return torch.stack(alone)


@pytest.mark.parametrize("read", READ)
def test_states_and_gradients_are_those_of_batches_of_one(encoder, read):
    ids, mask, segments = batch(encoder)
    found = []
    for work in (
        mean_states,
        lambda encoder, ids, mask, read, segments: one_by_one(encoder, ids, mask, read, segments),
    ):
        encoder.zero_grad()
        values = work(encoder, ids, mask, READ[read], segments)
        values.pow(3).sum().backward()
        found.append((values.detach(), [tensor.grad.clone() for tensor in encoder.parameters()]))
    assert found[1][0].std() > 0.05
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-5, rtol=0)
    largest = max(gradient.abs().max() for gradient in found[1][1])
    for ours, theirs in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4 * largest.item(), rtol=0)


def test_all_states_come_back_where_they_belong(encoder):
    ids, mask, _ = batch(encoder)
    found = token_states(encoder, ids, mask)
    assert (found[mask == 0] == 0).all()
    encoder.set_attn_implementation("sdpa")
    assert not is_unpadded(encoder)
    torch.testing.assert_close(found, token_states(encoder, ids, mask), atol=1e-5, rtol=0)


def test_no_sequence_sees_another(encoder):
    ids, mask, segments = batch(encoder)
    before = mean_states(encoder, ids, mask, LENGTHS, segments)
    other = torch.where(torch.arange(len(ids))[:, None] == 4, ids, batch(encoder, seed=2)[0])
    after = mean_states(encoder, other, mask, LENGTHS, segments)
    torch.testing.assert_close(before[4], after[4], atol=1e-6, rtol=0)
    others = torch.arange(len(ids)) != 4
    assert ((before - after)[others].abs().amax(1) > 1e-3).all()


def test_a_flattened_batch_without_this_path_is_the_trap(encoder):
    """transformers' collator of flat batches lets sequences attend to each other, unless FlashAttention reads it."""
    if encoder.config.model_type == "t5":
        pytest.skip("T5 has no positions to flatten by")
    ids, mask, _ = batch(encoder)
    rows = [{"input_ids": ids[row, :length].tolist()} for row, length in enumerate(LENGTHS)]
    flat = DataCollatorWithFlattening(return_tensors="pt")(rows)
    encoder.set_attn_implementation("sdpa")
    leaking = encoder(input_ids=flat["input_ids"], position_ids=flat["position_ids"]).last_hidden_state[0]
    parts = leaking.split(LENGTHS.tolist())
    trapped = torch.stack([part.mean(0) for part in parts])
    ours = mean_states(unpad(encoder), ids, mask, LENGTHS, None)
    assert (trapped - ours).abs().max() > 1e-2
    torch.testing.assert_close(ours, one_by_one(encoder, ids, mask, LENGTHS, None), atol=1e-5, rtol=0)


def test_dropout_is_drawn_in_training_alone():
    torch.manual_seed(0)
    encoder = unpad(bert(hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5))
    ids, mask, segments = batch(encoder)
    training = [mean_states(encoder, ids, mask, READ["some"], segments) for _ in range(2)]
    assert not torch.allclose(*training)
    encoder.eval()
    scoring = [mean_states(encoder, ids, mask, READ["some"], segments) for _ in range(2)]
    assert torch.equal(*scoring)


def test_checkpointed_gradients_are_the_same():
    torch.manual_seed(0)
    encoder = unpad(bert(hidden_dropout_prob=0, attention_probs_dropout_prob=0)).train()
    ids, mask, segments = batch(encoder)
    gradients = []
    for _ in range(2):
        encoder.zero_grad()
        mean_states(encoder, ids, mask, READ["some"], segments).pow(3).sum().backward()
        gradients.append([tensor.grad.clone() for tensor in encoder.parameters()])
        encoder.activation_checkpointing_enable()
    torch.testing.assert_close(*gradients)


def test_the_last_layer_computes_the_tokens_that_are_read_alone():
    encoder, seen = unpad(bert()), []
    encoder.encoder.layer[-1].intermediate.register_forward_hook(lambda module, given, _: seen.append(given[0].shape))
    ids, mask, segments = batch(encoder)
    for read in READ.values():
        mean_states(encoder, ids, mask, read, segments)
    assert [shape[1] for shape in seen] == [int(read.sum()) for read in READ.values()]


def test_linear_layers_see_no_padding(encoder):
    tokens = []
    for module in encoder.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda module, given, _: tokens.append(given[0].shape[:-1].numel()))
    ids, mask, segments = batch(encoder)
    mean_states(encoder, ids, mask, LENGTHS, segments)
    assert set(tokens) == {int(mask.sum())}


@pytest.mark.parametrize("architecture", ["deberta", "deberta-v2", "mpnet"])
def test_other_architectures_read_padded_batches_of_like_length_to_the_same_end(architecture):
    torch.manual_seed(0)
    encoder = unpad(bare_encoder(small_config(architecture, 48, initializer_range=0.1))).eval()
    assert not is_unpadded(encoder)
    ids, mask, _ = batch(encoder)
    inputs = Inputs.of(encoder, ids, mask, READ["some"])
    lengths = [part.mask.sum(1) for part in inputs.padded]
    assert [sorted(set(part.tolist())) for part in lengths] == [[3], [7], [12], [25], [40]]
    assert computed(encoder, LENGTHS.numpy()) == int(LENGTHS.sum())
    near = np.array([20, 21, 22, 30, 31])
    assert near.sum() < computed(encoder, near) <= 3 * 22 + 2 * 31
    together, states = mean_states_of(encoder, inputs), token_states(encoder, ids, mask)
    for row, length in enumerate(LENGTHS):
        alone = encoder(input_ids=ids[row : row + 1, :length]).last_hidden_state[0]
        torch.testing.assert_close(together[row], alone[: READ["some"][row]].mean(0), atol=1e-5, rtol=0)
        torch.testing.assert_close(states[row, :length], alone, atol=1e-5, rtol=0)
        assert (states[row, length:] == 0).all()


def test_sequences_know_where_every_token_stands():
    lengths, read = np.array([2, 4, 2]), np.array([2, 1, 1])
    sequences = Sequences.of(lengths, 5, read)
    assert sequences.groups == ((2, 2, 2), (1, 4, 1))
    assert sequences.taken.tolist() == [10, 11, 0, 1, 5, 6, 7, 8]
    assert sequences.positions.tolist() == [0, 1, 0, 1, 0, 1, 2, 3]
    assert sequences.prefixes.tolist() == [0, 1, 2, 3, 4]
    assert sequences.prefixes[sequences.read].tolist() == [0, 2, 3, 4]
    assert sequences.back.tolist() == [1, 2, 0]
    assert sequences.counts.tolist() == [1, 2, 1]
    assert [begins.tolist() for begins in sequences.begins] == [[0, 2, 4, 8], [0, 2, 4, 5]]
    assert {begins.dtype for begins in sequences.begins} == {torch.int32}
