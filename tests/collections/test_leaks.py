"""A query that is a document, and a question that stands on both sides, under other ids or in other letters."""

import json
import random

import numpy as np
import pytest

from rankscale_utils.collections import open_collection
from rankscale_utils.collections.normal_text import normal_text
from rankscale_utils.collections.notes import CHANGES
from rankscale_utils.evaluation.contract import contract
from rankscale_utils.evaluation.metrics import open_test, reference_values
from tests.collections.test_readers import TRAINING, many_pairs, tale, write


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is  a ＰＥＡＲ?", "what is a pear", True),
        ("Straße (1)", "STRASSE 1", True),
        ("a pear", "a pears", False),
        ("co\u00adoperate\u200b", "cooperate", True),
        ("कि", "का", False),
        (":-)", ":-(", False),
    ],
)
def test_case_width_and_punctuation_make_no_difference(one, other, same):
    assert (normal_text(one) == normal_text(other)) == same


@pytest.fixture
def own(tmp_path):
    """Write a collection in which every query is a document with the same id and text, as in BEIR's ArguAna.

    Its counter-argument, which shares twelve words, is relevant. Query x has the id of a document of another text.
    """
    chance, folder = random.Random(0), tmp_path / "params"
    words = [f"w{place}" for place in range(400)]
    documents, queries, judged = [{"id": "x", "text": "about something else"}], [], []
    for place in range(100):
        text = " ".join(chance.choices(words, k=20))
        counter = " ".join(chance.sample(text.split(), 12) + chance.choices(words, k=8))
        documents += [{"id": f"a{place}", "text": text, "title": "On it"}, {"id": f"b{place}", "text": counter}]
        queries.append(f"a{place}\t{text}\n")
        judged.append(f"a{place} 0 b{place} 1\n")
    queries.append("x\tsomething to read about\n")
    judged.append("x 0 x 1\n")
    write(folder / "docs.jsonl", "\n".join(map(json.dumps, documents)))
    write(folder / "queries.tsv", "".join(queries))
    write(folder / "qrels.txt", "".join(judged))
    return {"documents": "docs.jsonl", "queries": "queries.tsv", "judgments": "qrels.txt"}


def test_a_query_that_is_a_document_is_not_its_own_candidate(new_study, own):
    study = new_study(
        collection=own,
        training=TRAINING,
        evaluation={"depth": 10, "tests": {"own": own}, "metrics": ["nDCG@10", "RR@10"]},
    )
    collection = open_collection(study)
    values = reference_values(open_test(study, collection))["first_stage"]
    assert values[["nDCG@10", "RR@10"]].to_dict() == pytest.approx({"nDCG@10": 1, "RR@10": 1})
    table = collection.test_candidates("own")
    same = table[table["query_id"] == table["document_id"]]
    assert same["query_id"].tolist() == ["x"]  # whose text is another
    assert table.groupby("query_id").size().eq(10).all()
    assert collection.manifest["tests"]["own"]["own_documents"] == 100
    own = {"what": CHANGES["own_documents"], "count": 100, "where": "own"}
    assert own in collection.manifest["changes"]
    assert "100 queries are documents, and not their own candidates" in contract(study, collection, "own")["candidates"]
    items = collection.training_queries()
    asked, told = collection.queries()["query_id"].to_numpy(), collection.documents()["document_id"].to_numpy()
    for query, hard in zip(items.query_rows, items.hard_rows, strict=True):
        assert asked[query] not in told[hard[hard >= 0]]
    assert (items.hard_rows >= 0).all()


def test_a_search_of_everything_does_not_find_the_query_itself(new_study, own):
    from rankscale_utils.evaluation.scorers import scorer

    study = new_study(
        collection=own,
        training=TRAINING | {"groups": TRAINING["groups"] | {"hard": 1}},
        objectives={"contrastive": {"seeds": [0], "learning_rate": {"base": 3.0e-3}}},
        evaluation={"depth": 10, "tests": {"own": own}, "negatives": 16},
    )
    collection = open_collection(study)
    dense = scorer(study, "contrastive", collection)
    test, count = open_test(study, collection), len(collection.document_ids())
    queries, documents = np.zeros((101, count), np.float32), np.eye(count, dtype=np.float32)
    ids = collection.document_ids()["document_id"].tolist()
    for row, query in enumerate(dense.test_queries["own"]):
        queries[row, ids.index(query)] = 9
        queries[row, ids.index(query.replace("a", "b"))] = 5
    found, scores = dense._search(test, queries, documents, 10)
    assert found.shape == scores.shape == (101, 10)
    assert [ids[row] for row in found[:, 0]] == [f"b{n}" for n in range(100)] + ["x"]
    assert scores[:, 0].tolist() == [5] * 101
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.fixture
def judged(tmp_path):
    """Write documents, and training and test queries that share a question under other ids and in other letters."""
    folder = tmp_path / "params"
    write(folder / "docs.tsv", "".join(f"d{n}\tthe tale of {tale(n)} and {tale(n)}\n" for n in range(60)))
    train = [(f"t{n}", f"Find {tale(n).title()}?", f"d{n}") for n in range(40)]
    train += [(f"u{n}", f"find {tale(n)}", f"d{n + 10}") for n in range(40)]  # the same question, another answer
    test = [(f"q{n}", f"FIND: {tale(n)}", f"d{n}") for n in range(30, 50)]
    for name, rows in (("train", train), ("test", test)):
        write(folder / f"{name}.tsv", "".join(f"{query}\t{text}\n" for query, text, _ in rows))
        write(folder / f"{name}.qrels", "".join(f"{query} 0 {document} 1\n" for query, _, document in rows))
    return {name: {"documents": "docs.tsv", "queries": f"{name}.tsv", "judgments": f"{name}.qrels"}
            for name in ("train", "test")}  # fmt: skip


def test_the_same_question_under_another_id_is_counted_and_its_answer_is_no_negative(new_study, judged):
    evaluation = {"depth": 10, "tests": {"mine": judged["test"]}}
    study = new_study(collection=judged["train"], training=TRAINING, evaluation=evaluation)
    collection = open_collection(study)
    counts = collection.manifest["tests"]["mine"]
    assert counts["queries_also_trained_on"] == 10  # 30 to 39
    assert (counts["positives"], counts["positives_also_training_documents"]) == (20, 20)  # one corpus
    said = contract(study, collection, "mine")["collection"]
    assert said.startswith(
        "test: 20 queries, 10 of them also trained on (the same but for case and punctuation), and 20 of 20"
    )
    items = collection.training_queries()
    asked, told = collection.queries()["query_id"].to_numpy(), collection.documents()["document_id"].to_numpy()
    for row, query in enumerate(items.query_rows):
        number, hard = int(asked[query][1:]), items.hard_rows[row]
        assert not {f"d{number}", f"d{number + 10}"} & set(told[hard[hard >= 0]])
        both = np.flatnonzero(np.isin(told, [f"d{number}", f"d{number + 10}"]))
        assert items.is_relevant(np.array([query]), both).all()  # nor is it drawn as a random negative
    assert len(items.relevant) == 160


def test_a_test_document_that_training_sees_is_counted(new_study, tmp_path):
    pairs = many_pairs() + [
        {"query": f"once more {tale(n)}", "positive": f"The TALE of {tale(n)}!"} for n in range(300)
    ]
    write(tmp_path / "params" / "mine.jsonl", "\n".join(map(json.dumps, pairs)))
    study = new_study("mine", collection={"pairs": "mine.jsonl"}, training=TRAINING)
    collection = open_collection(study)
    counts, documents = collection.manifest["tests"]["mine/test"], collection.documents()
    trained = set(documents.loc[documents["training"], "text"].map(normal_text))
    table = collection.test_candidates("mine/test")
    positives = documents["text"][table.loc[table["positive"], "document_row"]].map(normal_text)
    assert counts["positives_also_training_documents"] == sum(text in trained for text in positives)
    assert 0 < counts["positives_also_training_documents"] < counts["positives"]
