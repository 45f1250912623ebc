"""T5s that rerank score as transformers has them, are known by name or card, or are refused in one sentence."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, T5ForSequenceClassification

from rankscale_utils.errors import StudyError
from rankscale_utils.models.counts import parameters, pass_flops
from rankscale_utils.models.ed2lm_counts import Work, cross_attention_flops
from rankscale_utils.models.published import read_published
from rankscale_utils.scoring.published import cut_share, published_system, score_published
from rankscale_utils.study.t5 import T5Settings
from tests.models.tiny import save_t5
from tests.scoring.test_published import DOCUMENTS, QUERIES, ROWS, pairs_of

MONO = "Query: {} Document: {} Relevant:"
V11 = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}


@torch.inference_mode()
def first_logits(folder, prompt):
    """Return the logits of what transformers would write first after every pair: (pairs, vocabulary)."""
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    texts = [prompt.format(QUERIES[query], DOCUMENTS[document]) for query, document in zip(*ROWS, strict=True)]
    given = tokenizer(texts, padding=True, return_tensors="pt")
    asked = {"max_new_tokens": 1, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    return model.generate(input_ids=given["input_ids"], attention_mask=given["attention_mask"], **asked).logits[0]


def against(folder, prompt, words):
    """Return the log-probability of the first of two words against the other, or the logit of one."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    logits = first_logits(folder, prompt)[:, [tokenizer.encode(word, add_special_tokens=False)[0] for word in words]]
    return (logits.double().log_softmax(1) if len(words) > 1 else logits)[:, 0].numpy()


@pytest.mark.parametrize(
    ("name", "kind", "words", "shape"),
    [
        ("monot5-tiny", "t5", ("true", "false"), {}),
        ("reranker-v11", "t5", ("true", "false"), V11),
        ("mt5-base-reranker", "mt5", ("yes", "no"), {}),
        ("umt5-reranker", "umt5", ("yes", "no"), {}),
    ],
)
def test_the_first_word_scores_as_transformers_writes_it(tmp_path, name, kind, words, shape):
    folder = save_t5(tmp_path / name, 16, kind, **shape)
    published = read_published("systems.theirs", str(folder), pair_tokens=1024)  # a T5's positions have no end
    pairs = pairs_of(published)
    assert cut_share(published, pairs, *ROWS) == 0
    ours, expected = score_published(published, pairs, *ROWS), against(folder, MONO, words)
    np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(np.log(-ours), np.log(-expected), atol=1e-3, rtol=0)  # where a word is all but sure
    assert np.log(-ours).std() > 0.1
    assert published.family == "cross_encoder"
    system = published_system(published, "theirs", pairs, np.arange(4))
    np.testing.assert_allclose(system.score(2, np.arange(4)), ours[8:], atol=1e-5)
    theirs = AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert parameters(published.model).total == sum(tensor.numel() for tensor in theirs.parameters())
    if kind == "t5":
        vocabulary = 2 * 16 * theirs.config.vocab_size
        expected = cross_attention_flops(theirs.config, Work(0, 30)) - vocabulary
        assert pass_flops(published.model).forward([30])[0] == pytest.approx(expected, rel=1e-6)


def test_rankt5s_score_is_the_logit_of_one_word(tmp_path):
    folder = save_t5(tmp_path / "RankT5-tiny", 16)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<extra_id_10>"]})
    tokenizer.save_pretrained(folder)
    published = read_published("systems.theirs", str(folder), pair_tokens=1024)
    ours = score_published(published, pairs_of(published), *ROWS)
    expected = against(folder, "Query: {} Document: {}", ["<extra_id_10>"])
    np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=0)


def test_a_card_or_the_study_says_how_a_t5_reranks_and_nothing_else_does(tmp_path):
    folder = save_t5(tmp_path / "model", 16)
    with pytest.raises(StudyError, match=r"^systems\.theirs = .* do not say that it reranks: set systems\.theirs\.t5"):
        read_published("systems.theirs", str(folder))
    asked = T5Settings(template="{query} | {document} |", words=("pear", "plum"))
    published = read_published("systems.theirs", str(folder), pair_tokens=1024, t5=asked)
    ours = score_published(published, pairs_of(published), *ROWS)
    np.testing.assert_allclose(ours, against(folder, "{} | {} |", ["pear", "plum"]), atol=1e-5, rtol=0)
    (folder / "README.md").write_text("This model is a T5-base reranker fine-tuned on MS MARCO.")
    published = read_published("systems.theirs", str(folder))
    ours = score_published(published, pairs := pairs_of(published), *ROWS)
    whole = pairs.lengths(*ROWS) < published.pair_tokens
    np.testing.assert_allclose(ours[whole], against(folder, MONO, ["true", "false"])[whole], atol=1e-5, rtol=0)
    assert published.pair_tokens == 512
    ends = [published.tokenizer.encode("a", "a").ids[-1]]
    assert ends == [1]  # the token that ends a T5's texts


def test_what_no_t5_here_does_is_refused(tmp_path):
    folder = save_t5(tmp_path / "monot5", 16)
    with pytest.raises(StudyError, match=r"^systems\.theirs\.t5\.words: .* makes \d+ tokens of 'nonsense': choose"):
        read_published("systems.theirs", str(folder), t5=T5Settings(words=("nonsense", "no")))
    with pytest.raises(StudyError, match=r"pair_tokens = 8: its prompt and a word of both texts take \d+: raise it"):
        read_published("systems.theirs", str(folder), pair_tokens=8)
    with pytest.raises(StudyError, match=r"^systems\.theirs\.layers: .* a T5 is kept whole"):
        read_published("systems.theirs", str(folder), layers=1)
    T5ForSequenceClassification(AutoModelForSeq2SeqLM.from_pretrained(folder).config).save_pretrained(folder)
    with pytest.raises(StudyError, match=r"^systems\.theirs = .* is a t5 model that writes nothing"):
        read_published("systems.theirs", str(folder))
