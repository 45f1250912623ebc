from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from rankscale_utils.collections import tokens
from rankscale_utils.collections.tokens import (
    SPECIAL,
    Pairs,
    StudyTokenizer,
    Texts,
    longest_first,
    study_tokenizer,
    train_tokenizer,
)
from rankscale_utils.errors import StudyError
from tests.models.tiny import byte_pairs, save_pretrained, word_pieces

QUERIES = ["count the apples", "a query that is a good deal longer than any query may ever be here", "pear"]
DOCUMENTS = ["the apples are counted one by one", "apple " * 60, "pear", "unseen ☃ sign and naïve Words, with Commas!"]
QUERY_TOKENS, PAIR_TOKENS = 8, 24
SPACED = (
    "  two\n\nlines,\ttabs   and \u200b zero-width \u200b\u200b words \u00a0 without \u2028 letters ☃ … -- ☃ then more"
)


KINDS = {
    "bert": word_pieces,
    "modernbert": byte_pairs,
    "roberta": partial(byte_pairs, pair="[CLS] $A [SEP] [SEP] $B [SEP]"),
}


def of_study(kind):
    """Return a tokenizer of the kind, as a study uses it."""
    if kind == "trained":
        trained = train_tokenizer(QUERIES + DOCUMENTS[:3], vocabulary=300)
        return StudyTokenizer(trained, SPECIAL, PAIR_TOKENS, QUERY_TOKENS)
    wrapped = KINDS[kind]([*QUERIES, *DOCUMENTS, SPACED])
    special = {name: str(token) for name, token in wrapped.special_tokens_map.items()}
    segments = "token_type_ids" in wrapped.model_input_names
    return StudyTokenizer(wrapped.backend_tokenizer, special, PAIR_TOKENS, QUERY_TOKENS, segments)


def written(folder, name, tokenizer, texts, longest):
    Texts.write(folder, name, tokenizer, iter(texts), longest)
    return Texts.load(folder, name)


@pytest.fixture(params=["trained", *KINDS])
def tokenizer(request):
    return of_study(request.param)


@pytest.fixture
def pairs(tokenizer, tmp_path):
    queries = written(tmp_path, "queries", tokenizer, QUERIES, QUERY_TOKENS)
    return Pairs(queries, written(tmp_path, "documents", tokenizer, [*DOCUMENTS, SPACED], PAIR_TOKENS), tokenizer)


def every_pair():
    rows = np.array([(q, d) for q in range(len(QUERIES)) for d in range(len(DOCUMENTS) + 1)])
    return rows[:, 0], rows[:, 1]


def test_special_tokens_have_the_ids_that_models_are_told():
    tokenizer = of_study("trained")
    assert [tokenizer.tokenizer.token_to_id(token) for token in SPECIAL.values()] == [0, 1, 2, 3]
    assert tokenizer.pad == 0
    assert [part.ids for part in tokenizer.layout.alone] == [(2,), (3,)]
    assert tokenizer.tokenizer.get_vocab_size() <= 300


def test_a_batch_equals_the_pairs_that_transformers_makes_of_the_saved_tokenizer(tokenizer, pairs, tmp_path):
    tokenizer.save(tmp_path)
    own = AutoTokenizer.from_pretrained(tmp_path)
    assert own.model_max_length == PAIR_TOKENS
    query_rows, document_rows = every_pair()
    whole = [own.decode(own.encode(query, add_special_tokens=False)[:QUERY_TOKENS]) for query in QUERIES]
    texts = [*DOCUMENTS, SPACED]
    encoded = own(
        [whole[row] for row in query_rows],
        [texts[row] for row in document_rows],
        truncation="only_second",
        padding=True,
        return_token_type_ids=True,
        return_tensors="pt",
    )
    batch = pairs.batch(query_rows, document_rows)
    assert torch.equal(batch.input_ids, encoded["input_ids"])
    assert torch.equal(batch.attention_mask, encoded["attention_mask"])
    lengths = pairs.lengths(query_rows, document_rows)
    assert lengths.tolist() == encoded["attention_mask"].sum(1).tolist()
    assert min(lengths) < PAIR_TOKENS == max(lengths)  # short and truncated pairs are both among them


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_whose_longer_text_gives_way_are_those_of_transformers(kind, tmp_path):
    own, tokenizer = KINDS[kind]([*QUERIES, *DOCUMENTS, SPACED]), of_study(kind)
    pair_tokens = tokenizer.layout.special + 20
    tokenizer = replace(tokenizer, query_tokens=None, pair_tokens=pair_tokens)
    texts = [*QUERIES, *DOCUMENTS, SPACED, "", *("pear " * count for count in range(1, 30))]
    both = [written(tmp_path, name, tokenizer, texts, pair_tokens) for name in ("queries", "documents")]
    rows = np.repeat(np.arange(len(texts)), len(texts)), np.tile(np.arange(len(texts)), len(texts))
    chosen = ([texts[row] for row in own_rows] for own_rows in rows)
    encoded = own(*chosen, truncation="longest_first", max_length=pair_tokens, padding=True, return_tensors="pt")
    batch = Pairs(*both, tokenizer).batch(*rows)
    assert torch.equal(batch.input_ids, encoded["input_ids"])
    assert torch.equal(batch.attention_mask, encoded["attention_mask"])


@pytest.mark.parametrize("room", [20, 21])
def test_what_stays_of_a_query_is_what_the_tokenizers_library_leaves(room):
    tokenizer = of_study("trained").tokenizer
    tokenizer.enable_truncation(room + 3, strategy="longest_first")
    lengths = np.mgrid[:40, :40].reshape(2, -1)
    left = [tokenizer.encode("a " * query, "a " * document).sequence_ids.count(0) for query, document in lengths.T]
    assert longest_first(*lengths, room).tolist() == left


def test_a_pair_without_query_tokens_has_room_for_an_even_number(new_study):
    text = {"vocabulary": 512, "query_tokens": None}
    for pair_tokens, expected in ((47, 47), (48, 47)):
        study = new_study(text=text | {"pair_tokens": pair_tokens})
        assert study_tokenizer(study, DOCUMENTS).pair_tokens == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_pretrained_tokenizers_own_pairs_are_the_batches(kind, tmp_path):
    own = KINDS[kind]([*QUERIES, *DOCUMENTS, SPACED])
    tokenizer, texts = of_study(kind), [*DOCUMENTS, SPACED]
    queries = [QUERIES[0], QUERIES[2]]
    pairs = Pairs(
        written(tmp_path, "queries", tokenizer, queries, 12),
        written(tmp_path, "documents", tokenizer, texts, PAIR_TOKENS),
        tokenizer,
    )
    rows = np.repeat([0, 1], len(texts)), np.tile(np.arange(len(texts)), 2)
    chosen = [queries[row] for row in rows[0]], [texts[row] for row in rows[1]]
    encoded = own(*chosen, truncation="only_second", max_length=PAIR_TOKENS, padding=True, return_tensors="pt")
    batch = pairs.batch(*rows)
    assert torch.equal(batch.input_ids, encoded["input_ids"])
    assert torch.equal(batch.attention_mask, encoded["attention_mask"])
    assert ("token_type_ids" in encoded) == (kind == "bert")
    if kind == "bert":
        assert torch.equal(batch.token_type_ids, encoded["token_type_ids"])


def test_a_pair_reads_as_the_docstring_says(tmp_path):
    tokenizer = of_study("trained")
    texts = [written(tmp_path, name, tokenizer, [text], 9) for name, text in (("q", QUERIES[0]), ("d", "pear"))]
    one = Pairs(*texts, tokenizer).batch(np.array([0]), np.array([0]))
    words = [tokenizer.tokenizer.id_to_token(token) for token in one.input_ids[0].tolist()]
    assert words == ["[CLS]", "count", "the", "apples", "[SEP]", "pear", "[SEP]"]
    assert one.token_type_ids.tolist() == [[0, 0, 0, 0, 0, 1, 1]]
    assert one.attention_mask.tolist() == [[1] * 7]
    assert one.of_query.tolist() == [5]


def test_padding_changes_nothing_but_the_end(tokenizer, pairs):
    whole = pairs.batch(*every_pair())
    for place, (query, document) in enumerate(zip(*every_pair(), strict=True)):
        alone = pairs.batch(np.array([query]), np.array([document]))
        length = alone.input_ids.shape[1]
        for together, single, filler in zip(whole[:3], alone[:3], (tokenizer.pad, 0, 0), strict=True):
            assert torch.equal(together[place, :length], single[0])
            assert (together[place, length:] == filler).all()


def test_lengths_round_a_pairs_limit_lose_only_the_documents_end(tmp_path):
    tokenizer = StudyTokenizer(of_study("trained").tokenizer, SPECIAL, 12, QUERY_TOKENS)
    queries = written(tmp_path, "queries", tokenizer, ["pear"], 5)
    documents = written(tmp_path, "documents", tokenizer, ["pear " * count for count in (7, 8, 9)], 12)
    pairs = Pairs(queries, documents, tokenizer)
    batch = pairs.batch(np.zeros(3, int), np.arange(3))
    assert pairs.lengths(np.zeros(3, int), np.arange(3)).tolist() == [11, 12, 12]
    assert batch.input_ids[1].tolist() == batch.input_ids[2].tolist()
    assert [row.tolist().count(3) for row in batch.input_ids] == [2, 2, 2]


def test_texts_written_in_chunks_are_those_written_at_once(tokenizer, tmp_path, monkeypatch):
    texts = [*QUERIES, *DOCUMENTS, "", SPACED]
    whole = written(tmp_path, "whole", tokenizer, texts, 9)
    monkeypatch.setattr(tokens, "TEXTS_TOGETHER", 2)
    opened = written(tmp_path, "chunks", tokenizer, texts, 9)
    assert isinstance(opened.ids, np.memmap)
    assert (opened.ids.dtype, opened.starts.dtype) == (np.int32, np.int64)
    np.testing.assert_array_equal(opened.ids, whole.ids)
    np.testing.assert_array_equal(opened.starts, whole.starts)
    for row, text in enumerate(texts):
        expected = tokenizer.tokenizer.encode(text, add_special_tokens=False).ids[:9]
        assert opened.ids[opened.starts[row] : opened.starts[row + 1]].tolist() == expected


def test_writing_holds_no_more_than_a_chunk_of_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "TEXTS_TOGETHER", 4)
    tokenizer, taken = of_study("trained"), []
    encode, at_once = StudyTokenizer.encode, []
    monkeypatch.setattr(
        StudyTokenizer,
        "encode",
        lambda self, texts, longest: at_once.append(len(taken)) or encode(self, texts, longest),
    )
    Texts.write(tmp_path, "many", tokenizer, (taken.append(1) or "pear" for _ in range(10)), 5)
    assert at_once == [4, 8, 10]
    assert len(Texts.load(tmp_path, "many").starts) == 11


def test_cutting_words_before_tokenising_loses_no_token(tokenizer):
    texts = [*DOCUMENTS, SPACED, "\u200b \u200b \u200b apple pear", " ".join(["☃"] * 30), ""]
    for longest in (1, 3, 8):
        for text, cut in zip(texts, tokenizer.encode(texts, longest), strict=True):
            assert cut == tokenizer.tokenizer.encode(text, add_special_tokens=False).ids[:longest]


def test_a_saved_tokenizer_returns_as_it_was(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = StudyTokenizer.load(tmp_path)
    assert again.tokenizer.to_str() == tokenizer.tokenizer.to_str()
    assert (again.special, again.pair_tokens) == (tokenizer.special, tokenizer.pair_tokens)


def test_pretrained_rungs_bring_their_tokenizer_and_learn_nothing(new_study, tmp_path):
    folders = {
        f"m{width}": str(save_pretrained(tmp_path / f"m{width}", "modernbert", width)) for width in (8, 12, 16, 24)
    }
    study = new_study(architecture=None, ladder=folders, held_out={"rungs": ["m24"]})
    own = AutoTokenizer.from_pretrained(folders["m8"])
    own.backend_tokenizer.enable_padding(length=40)  # as many published files say
    own.backend_tokenizer.enable_truncation(5)
    own.save_pretrained(folders["m8"])
    tokenizer = study_tokenizer(study, (pytest.fail("a text was read") for _ in range(1)))
    assert tokenizer.tokenizer.get_vocab() == own.get_vocab()
    assert tokenizer.pad == own.pad_token_id
    assert [part.ids for part in tokenizer.layout.alone] == [(own.cls_token_id,), (own.sep_token_id,)]
    assert not tokenizer.segments
    assert tokenizer.tokenizer.truncation is tokenizer.tokenizer.padding is None
    assert tokenizer.pair_tokens == study.text.pair_tokens


def test_rungs_that_read_different_tokens_are_refused(new_study, tmp_path):
    folders = {f"b{width}": str(save_pretrained(tmp_path / f"b{width}", "bert", width)) for width in (8, 12, 16)}
    folders["m8"] = str(save_pretrained(tmp_path / "m8", "modernbert", 8))
    study = new_study(architecture=None, ladder=folders, held_out={"rungs": ["m8"]})
    with pytest.raises(StudyError, match=r"ladder: b8 = .* and m8 = .* bring different tokenizers.*one family\.$"):
        study_tokenizer(study, [])


def test_a_tokenizer_of_another_layout_is_refused(new_study, tmp_path):
    folders = {f"b{width}": str(save_pretrained(tmp_path / f"b{width}", "bert", width)) for width in (8, 12, 16, 24)}
    study = new_study(architecture=None, ladder=folders, held_out={"rungs": ["b24"]})
    own = byte_pairs(DOCUMENTS, pair="[CLS] $B [SEP] $A [SEP]")
    own.save_pretrained(folders["b8"])
    with pytest.raises(StudyError, match=r"ladder\.b8 = .*\(.*the query does not come first\): name an encoder such"):
        study_tokenizer(study, [])
    own.backend_tokenizer.post_processor = word_pieces(DOCUMENTS).backend_tokenizer.post_processor
    own.pad_token = None
    own.save_pretrained(folders["b8"])
    with pytest.raises(StudyError, match=r"ladder\.b8 = .*its tokenizer has no pad token: name one that its vocab"):
        study_tokenizer(study, [])


def test_the_same_texts_give_the_same_token_ids(collection):
    texts = collection.documents()["text"].tolist()[:300]
    first, *others = (train_tokenizer(texts, 512).get_vocab() for _ in range(4))
    assert all(other == first for other in others)
