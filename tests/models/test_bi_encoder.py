import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from rankscale_utils.models.bi_encoder import BiEncoder, bi_encoder_flops, initialise_bi_encoder
from rankscale_utils.models.counts import parameters

VOCABULARY, COMMON = 400, 20  # the first tokens stand in every text
SHARES = torch.cat([torch.full((COMMON,), 0.05), torch.full((VOCABULARY - COMMON,), 1e-5)])


def encoder(architecture="bert", width=32, **changes):
    settings = {"vocab_size": VOCABULARY, "hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 2}
    settings |= {"intermediate_size": 2 * width, "pad_token_id": 0, "max_position_embeddings": 64} | changes
    if architecture == "bert":
        return AutoModel.from_config(AutoConfig.for_model("bert", **settings), add_pooling_layer=False)
    settings |= {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    return AutoModel.from_config(AutoConfig.for_model(architecture, **settings))


def texts(count=3, length=10, seed=0):
    """Token ids and attention mask of texts of different lengths."""
    ids = torch.randint(1, VOCABULARY, (count, length), generator=torch.Generator().manual_seed(seed))
    mask = (torch.arange(length)[None] < torch.arange(length, length - count, -1)[:, None]).long()
    return ids * mask, mask


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_embeddings_have_the_common_dimensions_and_do_not_see_padding(architecture, pooling):
    model = BiEncoder(encoder(architecture), pooling=pooling).eval()
    ids, mask = texts()
    together = model(ids, mask)
    assert together.shape == (3, 768)
    for row, length in enumerate(mask.sum(1)):
        alone = model(ids[row : row + 1, :length], mask[row : row + 1, :length])
        assert torch.allclose(together[row], alone[0], atol=1e-5)


def test_mean_and_cls_pool_what_they_say():
    model = BiEncoder(encoder(), dimensions=5).eval()
    ids, mask = texts()
    states = model.encoder(ids, attention_mask=mask).last_hidden_state
    expected = torch.stack([states[row, :length].mean(0) for row, length in enumerate(mask.sum(1))])
    assert torch.allclose(model(ids, mask), model.projection(expected), atol=1e-6)
    model.pooling = "cls"
    assert torch.allclose(model(ids, mask), model.projection(states[:, 0]), atol=1e-6)
    with pytest.raises(ValueError, match="pooling is 'max'; use 'mean' or 'cls'"):
        BiEncoder(model.encoder, pooling="max")


def matched(model):
    """How often, of 60, a query of common words and 3 rare ones finds the document that has these, first of 60."""
    generator = torch.Generator().manual_seed(3)
    rare = torch.randperm(VOCABULARY - COMMON, generator=generator)[: 60 * 6].view(60, 6) + COMMON
    common = torch.randint(1, COMMON, (2, 60, 12), generator=generator)
    queries, documents = torch.cat([common[0, :, :6], rare[:, :3]], 1), torch.cat([common[1], rare], 1)
    with torch.no_grad():
        scores = model(queries, torch.ones_like(queries)) @ model(documents, torch.ones_like(documents)).T
    return (scores.argmax(1) == torch.arange(60)).float().mean().item()


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_an_initialised_model_finds_texts_by_their_rare_words(architecture):
    model = BiEncoder(encoder(architecture, width=64)).eval()
    assert matched(initialise_bi_encoder(model, SHARES, seed=0)) > 0.8
    assert (
        matched(initialise_bi_encoder(model, torch.full((VOCABULARY,), 1e-5), seed=0)) < 0.6
    )  # common words as loud as rare


def test_chance_resemblances_are_alike_at_every_width():
    spreads = []
    for width in (8, 32, 128):
        model = initialise_bi_encoder(BiEncoder(encoder(width=width)), SHARES, seed=0).eval()
        embeddings = model(*texts(60, length=64))
        spreads.append((embeddings[:30] @ embeddings[30:].T).std().item())
    assert max(spreads) < 2 * min(spreads)


def test_the_start_is_the_seeds():
    first, again, other = (initialise_bi_encoder(BiEncoder(encoder()), SHARES, seed=seed) for seed in (0, 0, 1))
    for name, weights in first.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name])
    assert not torch.equal(first.projection.weight, other.projection.weight)
    narrow = initialise_bi_encoder(BiEncoder(encoder(), dimensions=4), SHARES, seed=0)
    assert torch.isfinite(narrow(*texts())).all()
    with pytest.raises(ValueError, match=r"shares has shape \(3,\); give one share for each of 400 tokens"):
        initialise_bi_encoder(first, torch.ones(3))


def test_parameters_and_operations_are_counted():
    model = BiEncoder(encoder(), dimensions=768).eval()
    counts = parameters(model)
    assert counts.non_embedding == counts.total - 32 * (VOCABULARY + 64 + 2)
    model.encoder.set_attn_implementation("eager")  # plain matrix products, which torch counts
    ids = torch.ones((1, 10), dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(ids, torch.ones_like(ids))
    assert bi_encoder_flops(model).forward([10])[0] == pytest.approx(counter.get_total_flops(), rel=1e-6)
