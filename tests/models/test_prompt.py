"""Prompts as layouts: the same tokens as the whole text has, with the pieces never cut."""

import pytest
from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast

from rankscale_utils.models.pair_layout import PairLayout
from rankscale_utils.models.prompt import lay_out
from rankscale_utils.study.decoder import PROMPTS, DecoderSettings
from tests.models.tiny import word_pieces
from tests.models.tiny_decoders import decoder_tokenizer

QUERY, DOCUMENT = "count the apples", "pears and plums, with commas"


def laid_out(prompt, **settings):
    """Return a tokenizer that lays out pairs in a prompt, and the same one without."""
    tokenizer = decoder_tokenizer(**settings).backend_tokenizer
    lay_out(tokenizer, prompt)
    return tokenizer, decoder_tokenizer(**settings).backend_tokenizer


@pytest.mark.parametrize(
    "prompt", [*PROMPTS.values(), "judge {query} {document}", "judge {query}\n{document}", "{query}{document} ?"]
)
def test_a_pair_has_the_tokens_of_the_prompts_text(prompt):
    tokenizer, plain = laid_out(prompt)
    text = prompt.replace("{query}", QUERY).replace("{document}", DOCUMENT)
    pair = tokenizer.encode(QUERY, DOCUMENT)
    assert plain.decode(pair.ids, skip_special_tokens=False) == text
    if prompt in PROMPTS.values():
        assert pair.ids == plain.encode(text, add_special_tokens=False).ids


def test_texts_begin_with_the_token_that_begins_all_texts_once():
    tokenizer, plain = laid_out("{query} then {document}", begin=True)
    begin = plain.token_to_id("<|begin|>")
    assert [token == begin for token in tokenizer.encode(QUERY, DOCUMENT).ids[:2]] == [True, False]
    twice, _ = laid_out("<|begin|>{query} then {document}", begin=True)
    assert twice.encode(QUERY, DOCUMENT).ids == tokenizer.encode(QUERY, DOCUMENT).ids


def test_a_tokenizer_that_marks_words_itself_gets_no_further_blank():
    tokenizer = word_pieces().backend_tokenizer
    lay_out(tokenizer, "query: {query} document: {document}")
    assert tokenizer.normalizer.__class__.__name__ == "BertNormalizer"
    assert tokenizer.encode(QUERY, DOCUMENT).tokens.count("[CLS]") == 1


def test_pieces_are_never_cut():
    tokenizer, _ = laid_out(PROMPTS["qwen3-reranker"])
    special = PairLayout.of(tokenizer).special
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|endoftext|>")
    whole = tokenizer.encode(QUERY, DOCUMENT).ids
    cut = wrapped(QUERY, DOCUMENT, truncation="only_second", max_length=len(whole) - 4)["input_ids"]
    layout = PairLayout.of(tokenizer)
    assert len(cut) == len(whole) - 4
    assert cut[: len(layout.before.ids)] == list(layout.before.ids)
    assert cut[-len(layout.after.ids) :] == list(layout.after.ids)
    assert special == len(layout.before) + len(layout.between) + len(layout.after)


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{query}", "must hold {query} and {document}, each once"),
        ("{query} {document} {query}", "must hold {query} and {document}, each once"),
        ("qwen-reranker", "or be one of plain, qwen3-reranker: 'qwen-reranker' is neither"),
        ("{query} {document}", "has no words of its own"),
        ("{document} {query}", "names {document} before {query}"),
    ],
)
def test_a_template_without_its_places_is_refused(template, sentence):
    with pytest.raises(ValidationError, match=sentence.replace("{", r"\{").replace("}", r"\}")):
        DecoderSettings(template=template)


def test_what_makes_the_score_follows_from_the_template_unless_it_is_given():
    assert DecoderSettings().verdict is None
    assert DecoderSettings(template="qwen3-reranker").verdict == ("yes", "no")
    assert DecoderSettings(template="qwen3-reranker", score="head").verdict is None
    assert DecoderSettings(score="yes_no", words=["1", "0"]).verdict == ("1", "0")


@pytest.mark.parametrize("begin", [False, True])
def test_another_prompt_replaces_the_one_before(begin):
    tokenizer, _ = laid_out(PROMPTS["qwen3-reranker"], begin=begin)
    lay_out(tokenizer, PROMPTS["plain"])
    once, _ = laid_out(PROMPTS["plain"], begin=begin)
    assert tokenizer.encode(QUERY, DOCUMENT).tokens == once.encode(QUERY, DOCUMENT).tokens
    assert tokenizer.encode(QUERY).tokens == once.encode(QUERY).tokens
