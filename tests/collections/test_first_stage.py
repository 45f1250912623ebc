import bm25s
import numpy as np
import pandas as pd
import pytest

from rankscale_utils.collections import first_stage
from rankscale_utils.parts import FirstStage


@pytest.mark.parametrize("settings", [FirstStage(), FirstStage(k1=1.5, b=0.75)], ids=["default", "other"])
def test_ranks_and_scores_equal_those_of_bm25s_in_one_process(collection, settings, monkeypatch):
    monkeypatch.setattr(first_stage, "CHUNK", 7)  # so that several workers answer
    documents, queries = collection.documents(), collection.queries().iloc[:60]
    found = first_stage.search(settings, documents, queries, depth=15)

    retriever = bm25s.BM25(method="lucene", k1=settings.k1, b=settings.b)
    retriever.index(
        bm25s.tokenize(documents["text"].tolist(), stopwords="en", show_progress=False), show_progress=False
    )
    words = bm25s.tokenize(queries["text"].tolist(), stopwords="en", show_progress=False)
    rows, scores = retriever.retrieve(words, k=15, show_progress=False)

    assert found["query_id"].tolist() == [query for query in queries["query_id"] for _ in range(15)]
    ours, theirs = found["document_id"].to_numpy().reshape(60, 15), documents["document_id"].to_numpy()[rows]
    for mine, other, score in zip(ours, theirs, scores, strict=True):
        alone = np.array([(score == value).sum() == 1 for value in score]) & (score > score[-1])  # no tie leaves room
        assert (mine[alone] == other[alone]).all()
    np.testing.assert_array_equal(found["score"].to_numpy().reshape(60, 15), scores)
    assert found["rank"].tolist() == list(range(1, 16)) * 60


def test_scores_are_the_formula_of_lucene():
    texts = ["red apple apple", "green apple", "blue pear tree"]
    documents = pd.DataFrame({"document_id": ["a", "b", "c"], "text": texts})
    queries = pd.DataFrame({"query_id": ["q"], "text": ["apple"]})
    found = first_stage.search(FirstStage(k1=0.9, b=0.4), documents, queries, depth=3)
    idf, mean_length = np.log(1 + (3 - 2 + 0.5) / (2 + 0.5)), 8 / 3

    def by_hand(count, length):
        return idf * count / (count + 0.9 * (1 - 0.4 + 0.4 * length / mean_length))

    scores = found.set_index("document_id")["score"]
    assert scores.to_dict() == pytest.approx({"a": by_hand(2, 3), "b": by_hand(1, 2), "c": 0}, rel=1e-5)
    assert found["document_id"].tolist() == ["a", "b", "c"]


def test_no_more_documents_are_returned_than_there_are():
    documents = pd.DataFrame({"document_id": ["a", "b"], "text": ["red apple", "green pear"]})
    queries = pd.DataFrame({"query_id": ["q", "r"], "text": ["apple", "pear"]})
    found = first_stage.search(FirstStage(), documents, queries, depth=5)
    assert found[["query_id", "document_id", "rank"]].to_numpy().tolist() == [
        ["q", "a", 1],
        ["q", "b", 2],
        ["r", "b", 1],
        ["r", "a", 2],
    ]


def test_equal_scores_keep_the_order_of_the_documents():
    documents = pd.DataFrame({"document_id": [f"d{n}" for n in range(300)], "text": ["green pear", "red apple"] * 150})
    queries = pd.DataFrame({"query_id": ["q"], "text": ["apple"]})
    found = first_stage.search(FirstStage(), documents, queries, depth=20)
    assert found["document_id"].tolist() == [f"d{2 * n + 1}" for n in range(20)]
