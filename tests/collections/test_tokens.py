import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from rankscale_utils.collections.tokens import CLS, PAD, SEP, SPECIAL, Pairs, Texts, train_tokenizer

QUERIES = ["count the apples", "a query that is a good deal longer than any query may ever be here", "pear"]
DOCUMENTS = ["the apples are counted one by one", "apple " * 60, "pear", "unseen ☃ sign and naïve Words, with Commas!"]
QUERY_TOKENS, PAIR_TOKENS = 8, 24


@pytest.fixture
def tokenizer():
    return train_tokenizer(QUERIES + DOCUMENTS[:3], vocabulary=300)


@pytest.fixture
def pairs(tokenizer):
    queries = Texts.encode(tokenizer, QUERIES, QUERY_TOKENS)
    return Pairs(queries, Texts.encode(tokenizer, DOCUMENTS, PAIR_TOKENS), PAIR_TOKENS)


def every_pair():
    rows = np.array([(q, d) for q in range(len(QUERIES)) for d in range(len(DOCUMENTS))])
    return rows[:, 0], rows[:, 1]


def test_special_tokens_have_the_ids_that_models_are_told(tokenizer):
    assert [tokenizer.token_to_id(token) for token in SPECIAL] == [0, 1, 2, 3]
    assert tuple(tokenizer.token_to_id(token) for token in ("[PAD]", "[CLS]", "[SEP]")) == (PAD, CLS, SEP)
    assert tokenizer.get_vocab_size() <= 300


def test_a_batch_equals_the_tokenizers_own_pairs(tokenizer, pairs):
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    query_rows, document_rows = every_pair()
    batch = pairs.batch(query_rows, document_rows)
    cut_queries = [tokenizer.decode(tokenizer.encode(q, add_special_tokens=False).ids[:QUERY_TOKENS]) for q in QUERIES]
    tokenizer.enable_truncation(PAIR_TOKENS, strategy="only_second")
    tokenizer.enable_padding(pad_id=PAD, pad_token="[PAD]")
    own = tokenizer.encode_batch(
        [(cut_queries[q], DOCUMENTS[d]) for q, d in zip(query_rows, document_rows, strict=True)]
    )
    assert batch.input_ids.tolist() == [code.ids for code in own]
    assert batch.attention_mask.tolist() == [code.attention_mask for code in own]
    assert batch.token_type_ids.tolist() == [code.type_ids for code in own]
    lengths = pairs.lengths(query_rows, document_rows)
    assert lengths.tolist() == [sum(code.attention_mask) for code in own]
    assert min(lengths) < PAIR_TOKENS == max(lengths)  # short and truncated pairs are both among them


def test_a_pair_reads_as_the_docstring_says(tokenizer, pairs):
    one = pairs.batch(np.array([0]), np.array([2]))
    words = [tokenizer.id_to_token(token) for token in one.input_ids[0].tolist()]
    assert words == ["[CLS]", "count", "the", "apples", "[SEP]", "pear", "[SEP]"]
    assert one.token_type_ids.tolist() == [[0, 0, 0, 0, 0, 1, 1]]
    assert one.attention_mask.tolist() == [[1] * 7]


def test_padding_changes_nothing_but_the_end(pairs):
    whole = pairs.batch(*every_pair())
    for place, (query, document) in enumerate(zip(*every_pair(), strict=True)):
        alone = pairs.batch(np.array([query]), np.array([document]))
        length = alone.input_ids.shape[1]
        for together, single in zip(whole, alone, strict=True):
            assert torch.equal(together[place, :length], single[0])
            assert not together[place, length:].any()


def test_lengths_round_a_pairs_limit_lose_only_the_documents_end(tokenizer):
    queries = Texts.encode(tokenizer, ["pear"], 5)
    documents = Texts.encode(tokenizer, ["pear " * count for count in (7, 8, 9)], 12)
    pairs = Pairs(queries, documents, 12)
    batch = pairs.batch(np.zeros(3, int), np.arange(3))
    assert pairs.lengths(np.zeros(3, int), np.arange(3)).tolist() == [11, 12, 12]
    assert batch.input_ids[1].tolist() == batch.input_ids[2].tolist()
    assert [row.tolist().count(SEP) for row in batch.input_ids] == [2, 2, 2]


def test_texts_open_memory_mapped_as_they_were_made(pairs, tmp_path):
    pairs.documents.save(tmp_path, "documents")
    opened = Texts.load(tmp_path, "documents")
    assert isinstance(opened.ids, np.memmap)
    np.testing.assert_array_equal(opened.ids, pairs.documents.ids)
    np.testing.assert_array_equal(opened.starts, pairs.documents.starts)
    assert opened.ids.dtype == np.int32
    again = Pairs(pairs.queries, opened, PAIR_TOKENS).batch(*every_pair())
    assert all(torch.equal(one, other) for one, other in zip(again, pairs.batch(*every_pair()), strict=True))


def test_cutting_words_before_tokenising_loses_no_token(tokenizer):
    for longest in (1, 3, 8):
        cut = Texts.encode(tokenizer, DOCUMENTS, longest)
        for row, text in enumerate(DOCUMENTS):
            whole = tokenizer.encode(text, add_special_tokens=False).ids
            assert cut.ids[cut.starts[row] : cut.starts[row + 1]].tolist() == whole[:longest]


def test_the_same_texts_give_the_same_token_ids(collection):
    texts = collection.documents()["text"].tolist()[:300]
    first, *others = (train_tokenizer(texts, 512).get_vocab() for _ in range(4))
    assert all(other == first for other in others)


def test_the_tokenizer_learns_from_the_training_split_alone(collection):
    vocabulary, pieces = collection.tokenizer().get_vocab(), {}
    for split, rows in collection.documents().groupby("split"):
        queries = collection.queries()["text"][rows.index]
        pieces[split] = set("".join([*rows["text"], *queries]).lower())
    unseen = [letter for letter in (pieces["dev"] | pieces["test"]) - pieces["train"] if letter.isalpha()]
    assert unseen  # letters that only the other splits hold
    assert not [letter for letter in unseen if letter in vocabulary or f"##{letter}" in vocabulary]


def test_the_collections_pairs_are_the_texts_of_its_tables(collection):
    pairs, tokenizer = collection.pairs(), collection.tokenizer()
    assert len(pairs.queries.starts) == len(collection.queries()) + 1
    assert len(pairs.documents.starts) == len(collection.documents()) + 1
    row = 17
    expected = tokenizer.encode(collection.queries()["text"][row], add_special_tokens=False).ids[:12]
    start, end = pairs.queries.starts[row : row + 2]
    assert pairs.queries.ids[start:end].tolist() == expected
