import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import bm25s
import numpy as np
import pandas as pd
import pytest

from rankscale_utils.collections import bm25, bm25_shards
from rankscale_utils.collections.bm25 import search_bm25
from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import hashes_of
from rankscale_utils.study.evaluation import FirstStage


def search(settings, documents, queries, depth, index=None):
    pairs = zip(documents["document_id"], documents["text"], strict=True)
    with TemporaryDirectory() as folder:
        return search_bm25(settings, pairs, queries, depth, index or Path(folder) / "index")


@pytest.mark.parametrize("settings", [FirstStage(), FirstStage(k1=1.5, b=0.75)], ids=["default", "other"])
def test_ranks_and_scores_equal_those_of_bm25s_in_one_process(collection, settings, monkeypatch):
    monkeypatch.setattr(bm25, "QUERIES_TOGETHER", 7)  # so that several workers answer
    documents, queries = collection.documents(), collection.queries().iloc[:60]
    found = search(settings, documents, queries, depth=15)

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
    found = search(FirstStage(k1=0.9, b=0.4), documents, queries, depth=3)
    idf, mean_length = np.log(1 + (3 - 2 + 0.5) / (2 + 0.5)), 8 / 3

    def by_hand(count, length):
        return idf * count / (count + 0.9 * (1 - 0.4 + 0.4 * length / mean_length))

    scores = found.set_index("document_id")["score"]
    assert scores.to_dict() == pytest.approx({"a": by_hand(2, 3), "b": by_hand(1, 2), "c": 0}, rel=1e-5)
    assert found["document_id"].tolist() == ["a", "b", "c"]


def test_no_more_documents_are_returned_than_there_are():
    documents = pd.DataFrame({"document_id": ["a", "b"], "text": ["red apple", "green pear"]})
    queries = pd.DataFrame({"query_id": ["q", "r"], "text": ["apple", "pear"]})
    found = search(FirstStage(), documents, queries, depth=5)
    assert found[["query_id", "document_id", "rank"]].to_numpy().tolist() == [
        ["q", "a", 1],
        ["q", "b", 2],
        ["r", "b", 1],
        ["r", "a", 2],
    ]


def test_equal_scores_keep_the_order_of_the_documents():
    documents = pd.DataFrame({"document_id": [f"d{n}" for n in range(300)], "text": ["green pear", "red apple"] * 150})
    queries = pd.DataFrame({"query_id": ["q"], "text": ["apple"]})
    found = search(FirstStage(), documents, queries, depth=20)
    assert found["document_id"].tolist() == [f"d{2 * n + 1}" for n in range(20)]


def test_a_query_of_stop_words_alone_takes_documents_in_their_order():
    documents = pd.DataFrame({"document_id": ["a", "b", "c"], "text": ["red apple", "green pear", "blue plum"]})
    queries = pd.DataFrame({"query_id": ["q", "r"], "text": ["what is the", "plum"]})
    found = search(FirstStage(), documents, queries, depth=2)
    assert found["document_id"].tolist() == ["a", "b", "c", "a"]
    assert found["score"].tolist()[:2] == [0, 0]


@pytest.fixture
def tiny_shards(monkeypatch):
    """Let everything be too large for memory, and shards be small."""
    monkeypatch.setattr(bm25, "FEW", 5)
    monkeypatch.setattr(bm25, "QUERIES_TOGETHER", 7)
    monkeypatch.setattr(bm25_shards, "SHARD", 100)
    monkeypatch.setattr(bm25_shards, "PIECE", 30)


@pytest.mark.parametrize("settings", [FirstStage(), FirstStage(k1=1.5, b=0.75)], ids=["default", "other"])
def test_shards_on_disk_find_what_memory_finds(collection, settings, tiny_shards, tmp_path):
    documents, queries = collection.documents(), collection.queries().iloc[:40]
    found = search(settings, documents, queries, 15, tmp_path / "index")
    assert len(list((tmp_path / "index").glob("*-scores.npy"))) == -(-len(documents) // 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bm25, "FEW", 10**6)
        expected = search(settings, documents, queries, 15)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5)
    assert found["document_id"].tolist() == expected["document_id"].tolist()


def test_equal_scores_keep_the_order_of_the_documents_across_shards(tiny_shards, tmp_path):
    documents = pd.DataFrame({"document_id": [f"d{n}" for n in range(300)], "text": ["green pear", "red apple"] * 150})
    queries = pd.DataFrame({"query_id": ["q", "r"], "text": ["apple", "the unknown"]})
    found = search(FirstStage(), documents, queries, 120, tmp_path / "index")["document_id"].tolist()
    assert found[:120] == [f"d{2 * n + 1}" for n in range(120)]
    assert found[120:] == [f"d{n}" for n in range(120)]


INDEX = """
import sys
from pathlib import Path
from rankscale_utils.collections import bm25
for bm25.FEW in (5, 500):  # in shards, and whole
    folder = Path(f"{sys.argv[1]}-{bm25.FEW}")
    folder.mkdir()
    bm25._build(folder, bm25.FirstStage(), [(f"d{n}", f"apples and {n} pears of {n * n} kinds") for n in range(30)])
"""


def test_every_process_builds_the_same_index_to_the_last_byte(tmp_path):
    for seed in "12":
        command = [sys.executable, "-c", INDEX, str(tmp_path / seed)]
        subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": seed}, check=True)
    for few in (5, 500):
        assert hashes_of(tmp_path / f"1-{few}") == hashes_of(tmp_path / f"2-{few}")
        assert len(hashes_of(tmp_path / f"1-{few}")) > 5


@pytest.mark.parametrize("few", [5, 500], ids=["shards", "whole"])
def test_an_index_is_built_once(tiny_shards, tmp_path, monkeypatch, few):
    monkeypatch.setattr(bm25, "FEW", few)
    documents = pd.DataFrame({"document_id": list("abcdefgh"), "text": ["red apple", "green pear"] * 4})
    queries = pd.DataFrame({"query_id": ["q"], "text": ["pear"]})
    first = search(FirstStage(), documents, queries, 3, tmp_path / "index")
    assert (tmp_path / "index" / bm25.WHOLE).is_dir() == (few > len(documents))
    pd.testing.assert_frame_equal(search_bm25(FirstStage(), None, queries, 3, tmp_path / "index"), first)


@pytest.mark.parametrize("few", [5, 500], ids=["shards", "whole"])
def test_documents_without_a_word_come_last_even_where_a_shard_has_no_other(tiny_shards, monkeypatch, few):
    monkeypatch.setattr(bm25, "FEW", few)
    monkeypatch.setattr(bm25_shards, "SHARD", 7)
    documents = pd.DataFrame({"document_id": list("abcdefgh"), "text": ["red apple"] * 3 + ["green pear"] * 4 + [""]})
    queries = pd.DataFrame({"query_id": ["q"], "text": ["pear"]})
    assert search(FirstStage(), documents, queries, 8)["document_id"].tolist() == list("defgabch")


@pytest.mark.parametrize("few", [5, 500], ids=["shards", "whole"])
def test_documents_without_any_word_are_refused(tiny_shards, monkeypatch, few):
    monkeypatch.setattr(bm25, "FEW", few)
    documents = pd.DataFrame({"document_id": list("abcdefgh"), "text": ["!!!", "? …"] * 4})
    queries = pd.DataFrame({"query_id": ["q"], "text": ["pear"]})
    with pytest.raises(
        StudyError, match=r"^first_stage = .*: no document has a word that BM25 compares: set first_stage"
    ):
        search(FirstStage(), documents, queries, 3)
