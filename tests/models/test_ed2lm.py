import pytest
import torch
from transformers import T5ForConditionalGeneration

from rankscale_utils.models.counts import parameters
from rankscale_utils.models.ed2lm import Ed2lmError, Setting, combine_scores, load_ed2lm, pool_states
from rankscale_utils.study.objectives import SCORES
from tests.models.ed2lm_models import FALSE, LONGEST, TRUE, VARIANTS, WORDS, config, padded, tiny

DOCUMENTS, QUERIES = [9, 4, 24, 1], [5, 3, 1, 6]


@pytest.fixture(params=VARIANTS)
def model(request):
    return tiny(request.param)


@torch.no_grad()
def test_a_reading_is_what_transformers_says_of_query_and_verdict(model):
    for document, query in zip(DOCUMENTS, QUERIES, strict=True):
        (document_ids, document_mask), (query_ids, query_mask) = padded([document]), padded([query], seed=2)
        reading = model(document_ids, document_mask, query_ids, query_mask)
        written = torch.cat([query_ids, torch.tensor([[TRUE]])], 1)
        logits = model.t5(input_ids=document_ids, labels=written).logits
        expected = logits.log_softmax(-1)[0, torch.arange(query), query_ids[0]].sum()
        torch.testing.assert_close(reading.log_likelihood()[0], expected, atol=1e-5, rtol=1e-6)
        torch.testing.assert_close(reading.relevance[0], logits[0, -1, TRUE] - logits[0, -1, FALSE])


@torch.no_grad()
def test_scores_depend_neither_on_padding_nor_on_neighbours(model):
    (document_ids, document_mask), (query_ids, query_mask) = padded(DOCUMENTS), padded(QUERIES, seed=2)
    together = model(document_ids, document_mask, query_ids, query_mask)
    noisy = model(
        torch.where(document_mask == 1, document_ids, 7),
        document_mask,
        torch.where(query_mask == 1, query_ids, 8),
        query_mask,
    )
    for kind in SCORES:
        alone = [
            model(document_ids[[n], :d], document_mask[[n], :d], query_ids[[n], :q], query_mask[[n], :q]).scores(kind)
            for n, (d, q) in enumerate(zip(DOCUMENTS, QUERIES, strict=True))
        ]
        torch.testing.assert_close(together.scores(kind), torch.cat(alone), atol=1e-5, rtol=1e-6)
        torch.testing.assert_close(together.scores(kind), noisy.scores(kind), atol=1e-5, rtol=1e-6)
        assert together.scores(kind).std() > 0.01


def test_both_is_the_log_probability_of_the_query_and_of_true():
    log_likelihood, relevance = torch.tensor([-3.0]), torch.tensor([0.4])
    expected = -3.0 + torch.log(torch.tensor(0.4).exp() / (1 + torch.tensor(0.4).exp()))
    torch.testing.assert_close(combine_scores("both", log_likelihood, relevance)[0], expected)
    assert combine_scores("log_likelihood", log_likelihood, None) is log_likelihood
    assert combine_scores("true_false", None, relevance) is relevance


def test_pooling_averages_neighbours_and_the_last_group_what_is_left():
    states = torch.tensor([[1.0, 3.0, 5.0, 9.0, 4.0], [2.0, 4.0, 8.0, -1.0, -1.0]]).unsqueeze(-1)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    means, kept = pool_states(states, mask, 2)
    assert means.squeeze(-1).tolist() == [[2, 7, 4], [3, 8, 0]]
    assert kept.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert pool_states(states, mask, 1) == (states, mask)
    assert pool_states(states, mask, 8)[0].flatten().tolist() == pytest.approx([4.4, 14 / 3])


@torch.no_grad()
def test_a_pooled_reading_attends_to_the_pooled_states():
    model, (ids, mask), (query, query_mask) = tiny(), padded([24, 7]), padded([4, 4], seed=2)
    states, _ = model.encode(ids, mask)
    means, kept = pool_states(states, mask, 4)
    expected = model.decode(means, kept, query, query_mask).log_likelihood()
    assert torch.equal(model(ids, mask, query, query_mask, pooling=4).log_likelihood(), expected)
    assert (expected - model(ids, mask, query, query_mask).log_likelihood()).abs().max() > 1e-3


@pytest.mark.parametrize(("variant", "tables"), [("t5", 1), ("v1.1", 2), ("gated, tied", 1)])
def test_output_rows_are_tied_only_where_the_config_says_so(variant, tables):
    model, distances = tiny(variant), 2 * 12 * 3
    counts = parameters(model)
    assert counts.total - counts.non_embedding == tables * WORDS * 24 + distances
    fresh = T5ForConditionalGeneration(config(variant))  # ties whatever its config says
    assert parameters(model).total == parameters(fresh).total + (tables - 1) * WORDS * 24
    assert model.output_scale == (1.0 if variant == "v1.1" else 24**-0.5)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["t5", "v1.1"])
def test_a_saved_folder_reranks_as_before(variant, tmp_path):
    model, pairs = tiny(variant), (*padded([9, 4]), *padded([3, 5], seed=2))
    model.t5.save_pretrained(tmp_path)
    loaded = load_ed2lm(tmp_path).eval()
    assert loaded.setting == model.setting
    assert torch.equal(loaded(*pairs).scores("both"), model(*pairs).scores("both"))
    assert parameters(loaded) == parameters(model)


def test_a_t5_that_was_no_reranker_needs_a_setting(tmp_path):
    T5ForConditionalGeneration(config("t5")).save_pretrained(tmp_path)
    with pytest.raises(Ed2lmError, match="not saved as a reranker: give its setting"):
        load_ed2lm(tmp_path)
    assert load_ed2lm(tmp_path, Setting(5, 6, 8)).setting.true_id == 5


def test_what_the_model_is_not_trained_for_is_refused():
    model = tiny()
    with pytest.raises(Ed2lmError, match="a document has 25 tokens and the model takes 24: cut it first"):
        model.encode(*padded([LONGEST + 1]))
    with pytest.raises(Ed2lmError, match="not trained for a pooling of 8 tokens: choose one of 1, 2, 4"):
        model.encode(*padded([5]), pooling=8)


def test_gradients_reach_encoder_decoder_and_vocabulary():
    model = tiny("v1.1")
    model(*padded([9, 4]), *padded([3, 5], seed=2)).scores("both").sum().backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []
